"""What is under docs/deploy is kept by tests as far as it can be without a board and without Docker."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

import mien
from mien.bench.verify import VerifyOptions
from mien.export.convert.bundle import make_bundle
from mien.runtime.models.spec import Precision
from mien.tests.processes import MIEN, started

ROOT = Path(mien.__file__).parent
DEPLOY = ROOT / "docs" / "deploy"
DEVICE_MB = 28


def unit() -> dict[str, list[str]]:
    """Settings of the service by name."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "mien.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_service_runs_as_it_is_written(tmp_path: Path) -> None:
    """Its two commands, with the demo camera for camera 0, before a real notify socket."""
    make_bundle(tmp_path / "face.mien", precisions=(Precision.FP32,), options=VerifyOptions(rounds=0))
    settings = unit()
    assert settings["Type"] == ["notify"] and settings["Restart"] == ["always"] and settings["WatchdogSec"] == ["30"]
    before, run = (shlex.split(settings[name][0]) for name in ("ExecStartPre", "ExecStart"))
    assert before[0] == run[0] == "/opt/mien/bin/mien"
    subprocess.run([*MIEN, *before[1:]], cwd=tmp_path, check=True, capture_output=True)
    run[run.index("0")] = "demo"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        with started(
            *MIEN,
            *run[1:],
            cwd=tmp_path,
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            heard = [manager.recv(4096).decode() for _ in range(3)]
            process.terminate()
            while not heard[-1].startswith("STOPPING"):
                heard.append(manager.recv(4096).decode())
            process.communicate(timeout=60)
    assert heard[0].startswith("READY=1") and heard[1] == heard[2] == "WATCHDOG=1"
    assert str(process.returncode) == settings["SuccessExitStatus"][0]


def test_the_service_reaches_a_csi_camera() -> None:
    """NVIDIA's daemon is asked through a socket in /tmp, where bundles are unpacked too."""
    settings = unit()
    assert "PrivateTmp" not in settings and settings["ReadWritePaths"] == ["/tmp"]
    assert settings["ProtectSystem"] == ["strict"] and settings["After"] == ["nvargus-daemon.service"]


@pytest.mark.parametrize("page", ["deploy/mien.service", "jetson.md"])
def test_who_follows_the_page_has_what_the_service_runs(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    program = Path(unit()["ExecStart"][0].split()[0])
    folder = program.parent.parent.as_posix()
    assert f"sudo python3 -m venv --system-site-packages {folder}\n" in text
    assert f"sudo {folder}/bin/pip install '.[jetson]'" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_knows_every_setting_of_the_service() -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", str(DEPLOY / "mien.service")], capture_output=True, text=True, check=False
    )
    told = [line for line in done.stderr.splitlines() if "mien.service" in line]
    assert all("/opt/mien/bin/mien is not executable" in line for line in told), done.stderr


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.l4t"])
def test_a_dockerfile_installs_what_pyproject_names(name: str) -> None:
    text = (DEPLOY / name).read_text()
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    named = [*project["dependencies"], *(n for e in extras.split(",") for n in project["optional-dependencies"][e])]
    # JetPack 6 brings Python 3.10; nothing in the other image depends on it.
    wanted = {need.partition(";")[0] for need in named if "python_version >=" not in need}
    # What changes seldom comes first: a layer of the image is made again when one before it is.
    before, after = text.split("COPY . .")
    assert set(re.findall(r"'([a-z-]+[<>=]+[\d.,<>=]+)'", before)) == wanted
    assert "apt-get" not in after and "serve" in extras
    lines = text.splitlines()
    assert any(line.startswith("USER mien") for line in lines) and 'ENTRYPOINT ["mien"]' in lines
    ignored = (DEPLOY / f"{name}.dockerignore").read_text().split()
    needed = ("README.md", "LICENSE", "pyproject.toml", "docs", "runtime", "bench", "export", "cli.py")
    assert not set(needed) & set(ignored)


def test_the_package_is_small_enough_for_a_device() -> None:
    """Without its compiled files, which weigh little: the models are most of it."""
    files = (f for room in ("runtime", "bench", "export") for f in (ROOT / room).rglob("*"))
    sizes = [f.stat().st_size for f in files if f.is_file() and "__pycache__" not in f.parts]
    assert 5e6 < sum(sizes) < DEVICE_MB * 1e6


def test_the_profile_of_a_jetson_brings_what_feeds_tensorrt() -> None:
    """cuda-python brings cuda.core in some versions only, and bindings newer than the CUDA of JetPack 6."""
    tomllib = pytest.importorskip("tomllib")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for profile in ("jetson", "tensorrt"):
        assert any(need.startswith("cuda-core") for need in extras[profile])
        assert not any(need.startswith("cuda-python") for need in extras[profile])
    bindings = [need for need in extras["jetson"] if need.startswith("cuda-bindings")]
    assert bindings == [
        "cuda-bindings>=12.8,<13; python_version < '3.12'",
        "cuda-bindings>=13,<14; python_version >= '3.12'",
    ]
