"""The commands that need PyTorch: train, export, bundle."""
