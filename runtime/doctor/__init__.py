"""Examines this machine, and says how to mend what is broken."""
