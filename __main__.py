"""Run the commands: ``python -m mien`` is ``mien``."""

from mien.cli import app

app(prog_name="mien")
