"""Check this machine and suggest fixes."""
