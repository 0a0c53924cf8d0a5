"""The page of a GPU: what the stages measured, beside the limits of the GPU, as tables, pictures and sentences."""
