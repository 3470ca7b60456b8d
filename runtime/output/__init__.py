"""Draws and writes results: overlay, window, video, rows, 3D page."""
