"""Reads and writes picture files and folders of them, known by their content, with damage told."""
