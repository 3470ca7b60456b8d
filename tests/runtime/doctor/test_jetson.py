"""What the doctor says of a Jetson: each test draws a board's files into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mien.runtime.doctor import jetson
from mien.runtime.doctor.check_result import CheckResult, Status
from mien.runtime.doctor.jetson import check_jetson, l4t_version

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 2025"
POWER = """< PM_CONFIG DEFAULT=1 >
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
"""


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """An Orin Nano with JetPack 6.2 as it comes: 25 W, clocks that follow the load, zram swap."""
    write(tmp_path, "etc/nv_tegra_release", RELEASE)
    write(
        tmp_path,
        "var/lib/dpkg/status",
        "Package: nvidia-jetson-x\nVersion: 9\n\nPackage: nvidia-jetpack\nStatus: install ok installed\n"
        "Version: 6.2+b77\n\nPackage: other\nVersion: 1\n",
    )
    write(tmp_path, "etc/nvpmodel.conf", POWER)
    write(tmp_path, "var/lib/nvpmodel/status", "pmode:0001 fmode:quiet\n")
    for policy, frequency in (("policy0", "1728000"), ("policy4", "1728000")):
        write(tmp_path, f"sys/devices/system/cpu/cpufreq/{policy}/scaling_min_freq", "729600\n")
        write(tmp_path, f"sys/devices/system/cpu/cpufreq/{policy}/scaling_max_freq", frequency)
    write(tmp_path, "sys/class/devfreq/17000000.gpu/min_freq", "306000000\n")
    write(tmp_path, "sys/class/devfreq/17000000.gpu/max_freq", "1020000000\n")
    write(tmp_path, "proc/meminfo", "MemTotal:        7800000 kB\n")
    write(tmp_path, "proc/swaps", "Filename Type Size Used Priority\n/dev/zram0 partition 634728 0 5\n")
    return tmp_path


def results(root: Path) -> dict[str, CheckResult]:
    return {result.name: result for result in check_jetson(root)}


def test_no_jetson_no_finding(tmp_path: Path) -> None:
    assert results(tmp_path) == {}


def test_a_board_as_it_comes(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetson.importlib.util, "find_spec", lambda name: None)  # TensorRT may be set up for tests
    found = results(board)
    assert found["JetPack"] == CheckResult("JetPack", Status.OK, "6.2, L4T 36.4.3")
    assert found["power mode"].found == "25W (available: 15W, 25W, MAXN_SUPER)"
    assert found["power mode"].fix.endswith("sudo nvpmodel -m 2")
    assert found["clocks"].status is Status.NOTE and "jetson_clocks" in found["clocks"].fix
    assert found["swap"].found == "0.6 GB, with 8.0 GB of memory" and "mkswap" in found["swap"].fix
    assert found["JetPack's TensorRT"].status is Status.NOTE
    assert "python3-libnvinfer" in found["JetPack's TensorRT"].fix


def test_a_board_made_ready_for_a_benchmark(board: Path) -> None:
    write(board, "var/lib/nvpmodel/status", "pmode:0002")
    for folder in board.glob("sys/devices/system/cpu/cpufreq/*"):
        (folder / "scaling_min_freq").write_text("1728000")
    assert results(board)["clocks"].status is Status.NOTE  # the GPU's are not held yet
    write(board, "sys/class/devfreq/17000000.gpu/min_freq", "1020000000")
    write(board, "proc/swaps", "Filename Type Size Used Priority\n/swapfile file 4194300 0 -2\n")
    found = results(board)
    assert all(found[name].status is Status.OK for name in ("power mode", "clocks", "swap"))
    assert found["power mode"].found == "MAXN_SUPER"


def test_other_jetpacks(board: Path) -> None:
    write(board, "etc/nv_tegra_release", RELEASE.replace("R36", "R35"))
    assert results(board)["JetPack"].status is Status.PROBLEM and results(board)["JetPack"].fix
    write(board, "var/lib/dpkg/status", "Package: other\nVersion: 1\n")
    write(board, "etc/nv_tegra_release", RELEASE.replace("R36", "R38").replace("4.3", "2.0"))
    assert results(board)["JetPack"].found.startswith("L4T 38.2.0 of JetPack 7; package")
    write(board, "etc/nv_tegra_release", RELEASE.replace("R36", "R41"))
    assert results(board)["JetPack"].found.startswith("L4T 41.4.3; package")
    write(board, "etc/nv_tegra_release", "something else")
    assert results(board)["JetPack"].found == "unknown L4T version: something else"
    assert l4t_version("something else") is None


def test_what_cannot_be_told_is_left_open(board: Path) -> None:
    (board / "etc/nvpmodel.conf").unlink()
    (board / "proc/meminfo").unlink()
    for policy in board.glob("sys/devices/system/cpu/cpufreq/*/scaling_min_freq"):
        policy.unlink()
    (board / "sys/class/devfreq/17000000.gpu/max_freq").unlink()
    found = results(board)
    assert found["power mode"].found == "unknown" and not {"swap", "clocks"} & set(found)


def test_a_tensorrt_that_this_python_cannot_see(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetson.importlib.util, "find_spec", lambda name: None)
    library = "usr/lib/python3.10/dist-packages/tensorrt/tensorrt.cpython-{}-aarch64-linux-gnu.so"
    minor = sys.version_info[1]
    write(board, library.format(f"3{minor}"), "")
    found = results(board)["JetPack's TensorRT"]
    assert found.status is Status.PROBLEM and "--system-site-packages" in found.fix
    assert "does not see the system's packages" in found.found
    (board / library.format(f"3{minor}")).unlink()
    write(board, library.format("38"), "")
    found = results(board)["JetPack's TensorRT"]
    assert found.found == f"built for Python 3.8, but this is 3.{minor}" and found.fix.startswith("/usr/bin/python3.8 ")
    monkeypatch.setattr(jetson.importlib.util, "find_spec", lambda name: object())
    assert results(board)["JetPack's TensorRT"].status is Status.OK
