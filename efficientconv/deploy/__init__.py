"""A trained network as it is used: batch norm folded into weights, frozen for the CPU, exported to other programs."""
