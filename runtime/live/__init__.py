"""Runs a live session: capture to outputs, the live web page, systemd."""
