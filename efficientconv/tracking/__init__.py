"""Copies of a run for Weights & Biases and TensorBoard, each made by a process of its own beside the training."""
