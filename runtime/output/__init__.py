"""Writes and draws results: overlay, window, video, rows, 3D page."""
