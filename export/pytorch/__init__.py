"""Runs checkpoints in eager PyTorch, as benchmark baselines and parity references."""
