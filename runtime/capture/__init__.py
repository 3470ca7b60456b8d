"""Reads frames from cameras, files, folders, URLs and pipes."""
