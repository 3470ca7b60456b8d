"""Runs a live session: capture, outputs, live web page, systemd."""
