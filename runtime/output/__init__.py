"""Draw and write results: overlay, window, video, rows, 3D page."""
