"""Runs checkpoints in eager PyTorch, as the baseline of a benchmark."""
