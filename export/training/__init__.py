"""Trains networks: data loading, augmentation, losses, the loop and its history."""
