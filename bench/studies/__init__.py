"""Studies to run by hand with `python -m`; not part of the wheel."""
