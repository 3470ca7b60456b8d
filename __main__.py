"""Run the commands: ``python -m mien`` is ``mien``."""

from .cli import app

app(prog_name="mien")
