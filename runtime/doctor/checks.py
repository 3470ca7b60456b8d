"""Checks this machine for `mien doctor`, changing nothing.

Only the trials need numpy, OpenCV and ONNX Runtime: without these, the checks before them say what to install.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .check_result import CheckResult, Status
from .jetson import check_jetson
from .machine import check_memory, check_nvidia, check_nvidia_libraries, check_system
from .packages import LIBRARIES, check_packages

Check = Callable[[], Iterator[CheckResult]]
CHECKS: tuple[Check, ...] = (
    check_system,
    check_memory,
    check_packages,
    check_nvidia,
    check_nvidia_libraries,
    check_jetson,
)


def run_checks() -> Iterator[CheckResult]:
    """Run all checks; one that fails unexpectedly is reported as a problem."""
    broken = []
    for check in CHECKS:
        for result in _run(check):
            if result.status is Status.PROBLEM and result.name in LIBRARIES.values():
                broken.append(result.name)
            yield result
    if broken:
        found = f"not tried without {' and '.join(broken)}"
        yield CheckResult("providers, window, camera", Status.NOTE, found, "install them, then run mien doctor again")
        return
    from .trials import TRIALS

    for trial in TRIALS:
        yield from _run(trial)


def _run(check: Check) -> Iterator[CheckResult]:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with this machine
        name = check.__name__.removeprefix("check_").removeprefix("try_").replace("_", " ")
        yield CheckResult(name, Status.PROBLEM, f"check failed: {error}")
