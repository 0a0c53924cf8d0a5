"""Layers in Triton, forward and backward, for GPUs: what `layers.backend=triton` runs (efficientconv.layers.backend).

Maps are channels-last: positions x channels, as matrices. Kernels do what memory binds (filters, batch norm, residual
connection, ReLU, their gradients); products of matrices are torch's.
"""
