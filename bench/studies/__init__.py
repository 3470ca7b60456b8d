"""Studies that are run by hand, with `python -m`; they are not part of the wheel."""
