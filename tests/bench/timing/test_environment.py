from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mien.bench.timing.environment import describe_environment, environment_warnings

Machine = Callable[[Path, dict[str, str]], Path]


def test_this_machine_is_described_without_naming_its_owner() -> None:
    found = describe_environment()
    assert found.python.startswith(".".join(map(str, sys.version_info[:3])))
    assert found.logical_cores >= 1
    assert "numpy" in found.packages
    assert datetime.fromisoformat(found.utc).utcoffset() == timedelta(0)
    for place in (Path.home(), Path(__file__).parent):
        assert len(place.parts) == 1 or str(place) not in str(asdict(found))


def test_torch_is_not_imported_to_learn_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import would raise
    describe_environment()


def test_a_desktop_tells_its_processor_and_its_clock(tmp_path: Path, machine: Machine) -> None:
    files = {
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Fast Chip w/ Graphics\ncpu MHz\t\t: 2596.146\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    }
    found = describe_environment(root=machine(tmp_path, files))
    assert (found.cpu, found.clock_mhz, found.governor) == ("Fast Chip w/ Graphics", 2596.146, "powersave")


def test_a_board_tells_its_model_and_its_governed_clock(tmp_path: Path, machine: Machine) -> None:
    files = {
        "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 62.50\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400\n",
    }
    found = describe_environment(root=machine(tmp_path, files))
    assert (found.cpu, found.clock_mhz, found.governor) == ("NVIDIA Jetson Orin Nano", 1510.4, None)


def test_a_machine_that_says_nothing_is_no_error(tmp_path: Path, machine: Machine) -> None:
    found = describe_environment(root=tmp_path)
    assert found.cpu
    assert found.clock_mhz is None
    assert found.governor is None
    odd = {"proc/cpuinfo": "cpu MHz : unknown\n"}
    assert describe_environment(root=machine(tmp_path, odd)).clock_mhz is None


def test_a_busy_machine_and_a_saving_governor_are_warned_of(tmp_path: Path) -> None:
    calm = replace(describe_environment(root=tmp_path), load_average=(0.1, 3.0, 3.0), logical_cores=2)
    assert environment_warnings(calm) == []
    assert environment_warnings(replace(calm, load_average=None)) == []
    assert environment_warnings(replace(calm, governor="performance")) == []
    (busy,) = environment_warnings(replace(calm, load_average=(2.0, 0.0, 0.0)))
    assert busy == "the machine was busy: load 2.0 on 2 cores"
    (governed,) = environment_warnings(replace(calm, governor="powersave"))
    assert "'powersave'" in governed
