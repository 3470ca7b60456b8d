"""Run the commands: ``python -m mien`` is ``mien``."""

from .runtime.interrupts import leave_at_once

leave_at_once()  # as in cli.py, which does not know this process for its own
from .cli import main  # noqa: E402

main()
