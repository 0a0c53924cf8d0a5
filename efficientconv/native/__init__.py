"""Native CPU kernels behind the layers, and when they are used (efficientconv.layers.backend)."""
