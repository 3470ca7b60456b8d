from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mien.bench.timing import sensors
from mien.bench.timing.sensors import (
    Reading,
    board_power_w,
    has_nvidia_smi,
    parse_nvidia_smi,
    rails_w,
    read_sensors,
    sensor_warnings,
)

Machine = Callable[[Path, dict[str, str]], Path]


def test_a_jetson_tells_its_rails_zones_and_alarms(tmp_path: Path, machine: Machine) -> None:
    monitor = "sys/class/hwmon/hwmon3"
    root = machine(
        tmp_path,
        {
            f"{monitor}/name": "ina3221\n",
            f"{monitor}/in1_label": "VDD_IN\n",
            f"{monitor}/in1_input": "5000\n",
            f"{monitor}/curr1_input": "1200\n",
            f"{monitor}/in2_label": "VDD_CPU_GPU_CV\n",
            f"{monitor}/in2_input": "4992\n",
            f"{monitor}/curr2_input": "250\n",
            f"{monitor}/in7_label": "sum of shunt voltages\n",
            f"{monitor}/in7_input": "6\n",
            "sys/class/hwmon/hwmon0/name": "pwmfan\n",
            "sys/class/hwmon/hwmon0/in1_label": "VDD_IN\n",
            "sys/class/hwmon/hwmon1/oc1_event_cnt": "2\n",
            "sys/class/hwmon/hwmon1/oc3_event_cnt": "1\n",
            "sys/class/thermal/thermal_zone0/temp": "48500\n",
            "sys/class/thermal/thermal_zone1/temp": "51250\n",
            "sys/class/thermal/thermal_zone2/temp": "-256000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400\n",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "729600\n",
        },
    )
    assert rails_w(root) == pytest.approx({"VDD_IN": 6.0, "VDD_CPU_GPU_CV": 1.248})
    assert board_power_w(root) == pytest.approx(6.0)
    found = read_sensors(root=root)
    assert found == Reading(clock_mhz=1120.0, temperature_c=51.25, power_w=found.power_w, throttled=3)
    assert found.power_w == pytest.approx(6.0)


def test_rails_without_a_common_one_are_added_up(tmp_path: Path, machine: Machine) -> None:
    files = {"sys/class/hwmon/hwmon1/name": "ina3221"}
    for channel, (label, milliamperes) in enumerate([("VDD_GPU_SOC", 100), ("VDD_CPU_CV", 200)], start=1):
        files[f"sys/class/hwmon/hwmon1/in{channel}_label"] = label
        files[f"sys/class/hwmon/hwmon1/in{channel}_input"] = "20000"
        files[f"sys/class/hwmon/hwmon1/curr{channel}_input"] = str(milliamperes)
    assert board_power_w(machine(tmp_path, files)) == pytest.approx(6.0)


def test_a_desktop_tells_its_clock_and_its_processor_time(tmp_path: Path, machine: Machine) -> None:
    root = machine(
        tmp_path,
        {
            "proc/cpuinfo": "processor : 0\ncpu MHz\t\t: 2000.0\nprocessor : 1\ncpu MHz\t\t: 3000.0\n",
            "proc/stat": "cpu  100 20 30 9999 7 4 6 50 11 12\ncpu0 1 2 3 4\n",
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4\n",
            "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "5\n",
        },
    )
    assert read_sensors(root=root) == Reading(clock_mhz=2500.0, throttled=9, busy_s=1.6, stolen_s=0.5)


def test_a_machine_that_says_nothing_or_nonsense_is_no_error(tmp_path: Path, machine: Machine) -> None:
    assert read_sensors(root=tmp_path) == Reading()
    odd = {"proc/stat": "cpu a b c\n", "sys/class/thermal/thermal_zone0/temp": "hot", "proc/cpuinfo": "cpu MHz : ?"}
    assert read_sensors(root=machine(tmp_path, odd)) == Reading()
    assert board_power_w(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1980, 44, 312.55, 1024\n", (1980.0, 44.0, 312.55, 1024.0)),
        ("[N/A], 44, [Not Supported], 1024\n1, 2, 3, 4\n", (None, 44.0, None, 1024.0)),
        ("", (None,) * 4),
        ("No devices were found\n", (None,) * 4),
    ],
)
def test_nvidia_smi_is_read(text: str, wanted: tuple[float | None, ...]) -> None:
    assert parse_nvidia_smi(text) == wanted


def fake_tool(folder: Path, script: str) -> str:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    return str(tool)


def test_a_gpu_is_asked_through_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors.shutil, "which", lambda _: fake_tool(tmp_path, "echo '1500, 60, 100.5, 2048'"))
    assert has_nvidia_smi()
    found = read_sensors(root=tmp_path, gpu=True)
    assert (found.gpu_clock_mhz, found.temperature_c, found.power_w, found.gpu_memory_mib) == (1500, 60, 100.5, 2048)
    monkeypatch.setattr(sensors.shutil, "which", lambda _: fake_tool(tmp_path, "echo no driver; exit 9"))
    assert not has_nvidia_smi()
    monkeypatch.setattr(sensors.shutil, "which", lambda _: str(tmp_path / "gone"))
    assert not has_nvidia_smi()
    monkeypatch.setattr(sensors.shutil, "which", lambda _: None)
    assert not has_nvidia_smi()


def test_a_changing_clock_and_throttling_are_told() -> None:
    steady = [Reading(clock_mhz=1000.0, gpu_clock_mhz=1500.0, throttled=3), Reading(clock_mhz=990.0, throttled=3)]
    assert sensor_warnings(steady) == [] == sensor_warnings([]) == sensor_warnings([Reading()])
    assert sensor_warnings([*steady, Reading(clock_mhz=900.0)]) == ["the CPU's clock changed between 900 and 1000 MHz"]
    assert sensor_warnings([*steady, Reading(gpu_clock_mhz=300.0)]) == [
        "the GPU's clock changed between 300 and 1500 MHz"
    ]
    assert sensor_warnings([*steady, Reading(throttled=5)]) == [
        "the machine was throttled 2 times while it was measured"
    ]
