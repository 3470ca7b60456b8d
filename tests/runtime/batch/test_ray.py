"""`mien predict --ray` on a local Ray of two workers: the command as it is typed, processes that are lost, Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from mien.cli import app
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.pictures.images import read_image
from mien.tests.processes import MIEN, descendants, started, wait_for

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or not Path("/proc").exists(), reason="needs mien[ray] and Linux"
)
CODE_OF_A_CLUSTER = """
import sys, ray
ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""
CODE_WITHOUT_RAY = "import sys; sys.modules['ray'] = None; from mien.cli import app; app()"


def command(*arguments: object) -> list[str]:
    return [*MIEN, "predict", *map(str, arguments)]


def mien(*arguments: object, code: int = 0) -> str:
    """Run predict; what it says, but for the progress on a slow machine. It prints nothing: its rows are in files."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)
    assert done.returncode == code and done.stdout == "", f"{done.stdout}\n{done.stderr}"
    return re.sub(r"predict: \d+ of \d+ done, .*\n", "", done.stderr)


def rows_in(out: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(out.glob("*.jsonl")))


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, int]]:
    """Address of a cluster of two CPUs, and the process that all of its processes are below."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", CODE_OF_A_CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        yield process.stdout.readline().strip(), process.pid


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty names of two pictures with a face each, and one that is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    photo = read_image(find_photo()[0])
    for name, zoom in (("large", 1.0), ("small", 0.6)):
        cv2.imwrite(str(folder / f"{name}.jpg"), cv2.resize(photo, None, fx=zoom, fy=zoom))
    many = folder / "many"
    many.mkdir()
    for n in range(80):
        (many / f"{n:02d}.jpg").symlink_to(folder / ("large.jpg" if n % 3 else "small.jpg"))
    (many / "30b.jpg").write_bytes(b"no picture")
    return many


@pytest.fixture(scope="module")
def local(photos: Path) -> tuple[bytes, str]:
    """Rows and words of the run without Ray."""
    target = photos.parent / "local.jsonl"
    said = mien(photos, "--json", target, code=2).splitlines(keepends=True)
    return target.read_bytes(), "".join(line for line in said if line.startswith("skipped: "))


@needs_ray
def test_a_cluster_writes_the_rows_of_the_local_run_and_goes_on_with_them(
    cluster: tuple[str, int], photos: Path, local: tuple[bytes, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (photos, "--ray", cluster[0], "--shard-size", 12, "--json", out)
    rows, said = local
    assert "30b.jpg is not a picture" in said and rows.count(b"\n") == 80
    assert mien(*arguments, code=2) == said and rows_in(out) == rows
    (out / "00000004.jsonl").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert mien(*arguments, code=2) == f"6 of 7 shards were already done\n{said}" and rows_in(out) == rows
    after = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert after.keys() - before.keys() == {"00000004.jsonl"} and before.items() <= after.items()


@needs_ray
def test_shards_of_lost_processes_are_done_by_others(
    cluster: tuple[str, int], photos: Path, local: tuple[bytes, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = command(photos, "--ray", cluster[0], "--shard-size", 40, "--json", out)
    with started(*run, stderr=subprocess.PIPE) as process:
        wait_for(lambda: len(list(out.glob("0*.begun"))) == 2)
        workers = [pid for pid, name in descendants(cluster[1]).items() if name.startswith("ray::MapWorker")]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        stderr = process.communicate(timeout=120)[1]
    assert len(workers) == 2 and process.returncode == 2, stderr
    assert rows_in(out) == local[0]
    rows = {f"0000000{n}.jsonl" for n in range(3)}
    assert {path.name for path in out.iterdir()} == {"plan.json", "00000000.failures.json", *rows}
    assert "shard 0: lost 1 process before" in stderr and "shard 1: lost 1 process before" in stderr


@needs_ray
def test_gpus_that_the_cluster_has_not_are_told(cluster: tuple[str, int], photos: Path, tmp_path: Path) -> None:
    said = mien(photos, "--ray", cluster[0], "--provider", "cuda", "--json", tmp_path / "out", code=2)
    assert "the Ray cluster has no GPU" in said and not list((tmp_path / "out").glob("*.jsonl"))


@needs_ray
def test_ctrl_c_leaves_whole_shards_and_no_process(photos: Path, local: tuple[bytes, str], tmp_path: Path) -> None:
    out, home = tmp_path / "out", tmp_path / "home"
    home.mkdir()
    run = command(photos, "--ray", "local", "--threads", 2, "--shard-size", 4, "--json", out)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(*run, **pipes, env=os.environ | {"HOME": str(home)}) as process:
        wait_for(lambda: len(list(out.glob("*.jsonl"))) > 2)
        family = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\n")
    assert {"gcs_server", "raylet"} <= set(family.values())
    wait_for(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()], seconds=15)
    done = sorted(out.glob("*.jsonl"))
    assert 2 < len(done) < 21 and not list(out.glob("*.partial"))
    expected = local[0].splitlines(keepends=True)
    for path in done:
        first = expected.index(path.read_bytes().splitlines(keepends=True)[0])
        assert path.read_bytes() == b"".join(expected[first : first + path.read_bytes().count(b"\n")])
    assert not (home / ".ray").exists()  # where Ray keeps secrets, for which later clusters would ask


@needs_ray
def test_an_address_without_a_cluster_is_told_at_once(photos: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = mien(photos, "--ray", address, "--json", tmp_path / "out", code=2)
    assert f"no Ray cluster at {address} (" in said and "ray start --head" in said
    said = mien(photos, "--ray", "ray://127.0.0.1:10001", "--json", tmp_path / "out", code=2)
    assert "with --ray auto" in said


def test_without_ray_the_extra_is_told(tmp_path: Path) -> None:
    arguments = ["predict", "photos", "--ray", "local", "--json", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", CODE_WITHOUT_RAY, *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.strip() == (
        "error: --ray needs ray, which is not installed; run: pip install 'mien[ray]'"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["photos", "--ray", "local"], "pass a folder or URI for them with --json"),
        (["photos", "--ray", "local", "--json", "-"], "pass a folder or URI for them with --json"),
        (["photos", "--ray", "local", "--json", "out", "--draw", "drawn"], "--ray writes JSON rows only"),
        (["photos", "--shard-size", "3"], "--shard-size requires --ray"),
        (["s3://bucket/photos"], "s3://bucket/photos can only be read with --ray"),
    ],
)
def test_misuse_is_told(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["predict", *arguments])
    assert result.exit_code == 2 and told in result.stderr and result.stdout == ""
