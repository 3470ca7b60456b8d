"""``mien webcam --serve`` as a user meets it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mien.cli import app
from mien.runtime.errors import InputError
from mien.runtime.live import listen_socket as listener
from mien.runtime.live.listen_socket import open_listen_socket
from mien.tests.processes import MIEN, started

SERVE = ["webcam", "demo", "--serve"]
TOKEN = "a-token-of-many-characters"


def error_of(*arguments: str, **env: str | None) -> str:
    result = CliRunner().invoke(app, [*SERVE, *arguments], env={"MIEN_TOKEN": None, **env})
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error:"), result.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("8080", "expects HOST:PORT, such as 127.0.0.1:8080"),
        ("localhost:", "expects HOST:PORT"),
        (":8080", "expects HOST:PORT"),
        ("::1:8080", "expects HOST:PORT"),
        ("localhost:70000", "expects HOST:PORT"),
        ("localhost:x", "expects HOST:PORT"),
        ("no.such.host.invalid:8080", "no such address here"),
        ("a..b:8080", "no such address here"),
        ("203.0.113.7:8080", "needs a token; run: export MIEN_TOKEN=$(python3 -c"),
        ("0.0.0.0:0", "needs a token"),
    ],
)
def test_an_address_that_cannot_be_used(address: str, reason: str) -> None:
    assert reason in error_of(address)


def test_other_machines_need_a_token_that_cannot_be_guessed() -> None:
    for weak in ("short", "fifteen-letters", "with spaces in between", "müde-und-lang-genug-x"):
        message = error_of("0.0.0.0:0", "--token", weak)
        assert "at least 16 characters, and only letters" in message and weak not in message
    for other in "+&#%?\\\"'":  # would not reach the page from an address as it is printed
        assert f"17 characters, including {other!r}" in error_of("0.0.0.0:0", "--token", f"a-long-to{other}ken-xyz")
    assert "needs a token" in error_of("0.0.0.0:0", MIEN_TOKEN="")
    assert "cannot listen there" in error_of("203.0.113.7:8080", MIEN_TOKEN=TOKEN)
    with open_listen_socket("0.0.0.0:0", token=TOKEN) as found:
        assert not found.loopback and found.token == TOKEN
    with open_listen_socket("127.0.0.1:0", token="Aa0._~/=-" * 2) as found:
        assert found.token == "Aa0._~/=-" * 2


def test_a_port_in_use_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mien.runtime.pipeline.pipeline.Pipeline.load", lambda *_, **__: pytest.fail("a model was opened")
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "cannot listen there (Address already in use); choose another port" in error_of(f"127.0.0.1:{port}")


def test_a_missing_extra_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mien.runtime.pipeline.pipeline.Pipeline.load", lambda *_, **__: pytest.fail("a model was opened")
    )
    monkeypatch.setattr(listener, "find_spec", lambda name: None if name == "uvicorn" else object())
    assert "--serve needs uvicorn, which is not installed; run: pip install 'mien[serve]'" in error_of("127.0.0.1:0")


def test_names_of_a_listener() -> None:
    with open_listen_socket("localhost:0") as found:
        assert found.loopback and found.url == f"http://localhost:{found.port}/"
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with contextlib.suppress(InputError), open_listen_socket("[::1]:0") as found:
        assert found.loopback and found.url == f"http://[::1]:{found.port}/"


def test_show_beside_serve_wants_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, [*SERVE, "127.0.0.1:0", "--show", "--max-frames", "2"])
    assert result.exit_code == 2 and "no display" in result.stderr
    result = CliRunner().invoke(app, [*SERVE, "127.0.0.1:0", "--max-frames", "2"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("number", "options"), [(signal.SIGINT, []), (signal.SIGTERM, ["--blur"])])
def test_a_signal_ends_a_watched_run_cleanly(number: signal.Signals, options: list[str], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    command = [*MIEN, *SERVE, "127.0.0.1:0", "--json", rows, *options]
    env = {**os.environ, "MIEN_TOKEN": TOKEN}
    with started(*command, stderr=subprocess.PIPE, env=env) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        url = re.fullmatch(r"live page: (http://127\.0\.0\.1:\d+/)\?token=…\n", told)
        assert url is not None and TOKEN not in told
        headers = {"Authorization": f"Bearer {TOKEN}"}
        events = urllib.request.urlopen(urllib.request.Request(f"{url[1]}faces", headers=headers), timeout=60)
        stream = urllib.request.urlopen(urllib.request.Request(f"{url[1]}stream.mjpg", headers=headers), timeout=60)
        with events, stream:
            seen = []
            while len(seen) < 3:
                line = events.readline()
                if line.startswith(b"data: "):
                    seen.append(json.loads(line[6:]))
            with urllib.request.urlopen(urllib.request.Request(f"{url[1]}snapshot.jpg", headers=headers)) as response:
                snapshot = cv2.imdecode(np.frombuffer(response.read(), np.uint8), cv2.IMREAD_COLOR)
            process.send_signal(number)
            start = time.monotonic()
            for line in events:
                if line.startswith(b"data: "):
                    seen.append(json.loads(line[6:]))
            stream.read()
            _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    assert "Traceback" not in stderr and time.monotonic() - start < 15
    x, y = np.reshape(seen[2]["faces"][0]["box"], (2, 2)).mean(axis=0).astype(int)
    details = cv2.Laplacian(snapshot[y - 40 : y + 40, x - 40 : x + 40], cv2.CV_64F).std()
    assert details < 3 if "--blur" in options else details > 10
    written = {row["frame"]: row for row in map(json.loads, rows.read_text().splitlines())}
    assert all(written[row["frame"]] == row for row in seen) and seen[-1]["frame"] == max(written)
