"""Layers in Triton, forward and backward, for GPUs. `layers.backend=triton` runs them (efficientconv.layers.backend).

Maps are channels-last: matrices of positions x channels. Triton's kernels compute the memory-bound parts (filters, batch
norm, residual connection, ReLU and their gradients). Torch computes the matrix products.
"""
