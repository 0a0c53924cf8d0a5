"""Tables and pictures of costs and results, beside the figures of the paper."""
