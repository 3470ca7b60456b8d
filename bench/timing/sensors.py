"""Reads clock, temperature, power and load from Linux, from a Jetson's power rails and from nvidia-smi."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...runtime.files import read_text_or_none
from ...runtime.wording import counted

TICKS_PER_S = 100
"""USER_HZ, the unit of ``/proc/stat``: 100 on x86 and ARM."""
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")
"""Rails that feed a whole Jetson module; without one of these, all rails are summed."""
_GPU_FIELDS = ("clocks.sm", "temperature.gpu", "power.draw", "memory.used")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A machine's state at one moment; unknown values are None.

    Attributes:
        clock_mhz: Mean clock of the cores.
        temperature_c: Temperature of the hottest zone.
        power_w: Power of the GPU, or of the whole Jetson.
        throttled: Number of throttling events since boot, thermal or by over-current.
        gpu_clock_mhz: Clock of the GPU.
        gpu_memory_mib: Used memory of the GPU.
        busy_s: Processor time used since boot, over all cores.
        stolen_s: Processor time that the hypervisor has given to other guests since boot.
    """

    clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttled: int | None = None
    gpu_clock_mhz: float | None = None
    gpu_memory_mib: float | None = None
    busy_s: float | None = None
    stolen_s: float | None = None


def read_sensors(*, root: Path = Path("/"), gpu: bool = False) -> Reading:
    """Read the state of this machine.

    Args:
        root: Folder that contains ``proc`` and ``sys``.
        gpu: Also run nvidia-smi, which is slow.
    """
    busy_s, stolen_s = _processor_time(root)
    clock, temperature, power, memory = _nvidia_smi() if gpu else (None, None, None, None)
    return Reading(
        clock_mhz=_clock_mhz(root),
        temperature_c=max((t for t in (_hottest_c(root), temperature) if t is not None), default=None),
        power_w=board_power_w(root) if power is None else power,
        throttled=_throttled(root),
        gpu_clock_mhz=clock,
        gpu_memory_mib=memory,
        busy_s=busy_s,
        stolen_s=stolen_s,
    )


def board_power_w(root: Path = Path("/")) -> float | None:
    """Read the power of a Jetson in W from its INA3221 sensors; None on other machines."""
    rails = rails_w(root)
    for whole in _WHOLE_BOARD:
        if whole in rails:
            return rails[whole]
    return sum(rails.values()) if rails else None


def rails_w(root: Path = Path("/")) -> dict[str, float]:
    """Read the power in W of each labelled rail of the INA3221 sensors."""
    rails = {}
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read_text_or_none(monitor / "name") != "ina3221":
            continue
        for label in sorted(monitor.glob("in*_label")):
            channel = label.name[2 : -len("_label")]
            millivolts, milliamperes = (
                _number(monitor / f"in{channel}_input"),
                _number(monitor / f"curr{channel}_input"),
            )
            if millivolts is not None and milliamperes is not None:  # the channel "sum of shunts" has no current
                rails[read_text_or_none(label) or channel] = millivolts * milliamperes / 1e6
    return rails


def sensor_warnings(readings: Sequence[Reading]) -> list[str]:
    """List reasons to doubt a run, judging by its readings."""
    found = []
    for name, what in (("clock_mhz", "the CPU's clock"), ("gpu_clock_mhz", "the GPU's clock")):
        clocks = [value for value in (getattr(r, name) for r in readings) if value is not None]
        if clocks and min(clocks) < 0.95 * max(clocks):
            found.append(f"{what} changed between {min(clocks):.0f} and {max(clocks):.0f} MHz")
    throttled = [r.throttled for r in readings if r.throttled is not None]
    if throttled and throttled[-1] > throttled[0]:
        found.append(f"the machine was throttled {counted(throttled[-1] - throttled[0], 'time')} while it was measured")
    return found


def has_nvidia_smi() -> bool:
    """Return whether nvidia-smi is installed and finds a GPU."""
    return any(value is not None for value in _nvidia_smi())


def _nvidia_smi() -> tuple[float | None, ...]:
    nothing = (None,) * len(_GPU_FIELDS)
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return nothing
    try:
        done = subprocess.run(
            [tool, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return nothing
    return parse_nvidia_smi(done.stdout) if done.returncode == 0 else nothing


def parse_nvidia_smi(text: str) -> tuple[float | None, ...]:
    """Parse clock in MHz, temperature in °C, power in W and used memory in MiB of the first GPU; None for ``[N/A]``."""
    cells = text.strip().splitlines()[0].split(",") if text.strip() else []
    cells += [""] * (len(_GPU_FIELDS) - len(cells))
    return tuple(_as_number(cell) for cell in cells[: len(_GPU_FIELDS)])


def _clock_mhz(root: Path) -> float | None:
    cores = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [khz / 1000 for khz in (_number(path) for path in cores) if khz is not None]
    if not clocks:
        lines = (read_text_or_none(root / "proc/cpuinfo") or "").splitlines()
        found = (_as_number(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz"))
        clocks = [mhz for mhz in found if mhz is not None]
    return sum(clocks) / len(clocks) if clocks else None


def _hottest_c(root: Path) -> float | None:
    zones = (_number(path) for path in (root / "sys/class/thermal").glob("thermal_zone*/temp"))
    return max((zone / 1000 for zone in zones if zone is not None and zone > 0), default=None)


def _throttled(root: Path) -> int | None:
    """Sum Intel's throttling counts of the cores, or a Jetson's over-current alarms in hwmon."""
    cores = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    alarms = (root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")
    counts = [count for count in (_number(path) for path in (*cores, *alarms)) if count is not None]
    return int(sum(counts)) if counts else None


def _processor_time(root: Path) -> tuple[float | None, float | None]:
    """Read (used, stolen) seconds since boot from /proc/stat: user nice system idle iowait irq softirq steal."""
    text = read_text_or_none(root / "proc/stat")
    cells = [] if text is None else text.splitlines()[0].split()[1:]
    if len(cells) < 8 or not all(cell.isdecimal() for cell in cells):
        return None, None
    user, nice, system, _, _, irq, softirq, steal = (int(cell) for cell in cells[:8])
    return (user + nice + system + irq + softirq) / TICKS_PER_S, steal / TICKS_PER_S


def _number(path: Path) -> float | None:
    text = read_text_or_none(path)
    return None if text is None else _as_number(text)


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
