"""Reads and writes picture files, which are recognized by content and checked for damage, and lists folders of them."""
