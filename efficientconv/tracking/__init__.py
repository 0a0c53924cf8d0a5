"""Copies of a run for Weights & Biases and TensorBoard, each made by a separate process beside the training."""
