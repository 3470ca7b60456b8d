"""What the live page answers: pictures, rows, snapshots, health, metrics, itself."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from prometheus_client.parser import text_string_to_metric_families

from mien.runtime.live import page_stats
from mien.runtime.live.page_app import PAGE
from mien.runtime.output.rows import frame_row
from mien.runtime.values import Faces
from mien.tests.fakes.fake_live_run import next_picture, next_row, noise, one_face, served
from mien.tests.processes import wait_for


def test_the_stream_shows_the_faces() -> None:
    grey = np.full((480, 640, 3), 90, np.uint8)
    with served(stream_hz=50) as run, run.going(grey), run.watching("/stream.mjpg") as stream:
        assert stream.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=mien-frame"
        assert stream.readline() == b"--mien-frame\r\n"
        for _ in range(3):
            picture = next_picture(stream)
            assert picture.shape == grey.shape
            face = picture[8:44, 10:40].astype(int)
            assert np.abs(face - 90).max() > 60 and np.abs(picture[200:].astype(int) - 90).max() < 8


def test_events_are_the_rows_of_the_json_output() -> None:
    with served(stream_hz=50) as run, run.watching("/faces") as events:
        assert events.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        frame = run.write()
        assert next_row(events) == json.loads(json.dumps(frame_row(frame, one_face())))
        frame = run.write(faces=Faces.empty())
        assert next_row(events) == {"frame": 1, "timestamp_ns": 10, "faces": []}


def test_a_snapshot_has_full_size_and_waits_for_the_first_frame() -> None:
    with served() as run:
        status, answer, _ = run.ask("/snapshot.jpg")
        assert status == 503 and answer.getheader("Retry-After") == "5"
        run.write(noise((1080, 1920)))
        status, answer, jpeg = run.ask("/snapshot.jpg")
        assert status == 200 and answer.getheader("Content-Type") == "image/jpeg"
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (1080, 1920, 3)


def test_health_follows_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as run:
        run.write()
        assert run.ask("/healthz")[::2] == (200, b"ok\n")
        with monkeypatch.context() as late:
            late.setattr(page_stats, "STALE_S", 0)
            assert run.ask("/healthz")[::2] == (503, b"no new frames\n")
        run.write()
        assert run.ask("/healthz")[0] == 200


def test_metrics_are_what_prometheus_reads() -> None:
    with served() as run:
        for i in range(100):
            run.page.stats._timer.record("process", (i + 1) * 1_000_000)
        run.write()
        run.write()
        with run.watching("/faces"):
            wait_for(lambda: run.page.rows.subscribers)
            _, answer, text = run.ask("/metrics")
    assert answer.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    families = {f.name: f for f in text_string_to_metric_families(text.decode())}
    values = {(s.name, *sorted(s.labels.items())): s.value for f in families.values() for s in f.samples}
    assert values["mien_frames_read_total",] == 12 and values["mien_frames_dropped_total",] == 3
    assert values["mien_frames_processed_total",] == 2 and values["mien_reconnects_total",] == 2
    assert values["mien_faces",] == 1 and values["mien_clients", ("feed", "faces")] == 1
    assert values["mien_clients", ("feed", "stream")] == 0
    stage = ("stage", "process")
    assert values["mien_stage_latency_seconds", ("quantile", "0.5"), stage] == pytest.approx(0.05)
    assert values["mien_stage_latency_seconds_sum", stage] == pytest.approx(5.05)
    assert values["mien_stage_latency_seconds_count", stage] == 100
    assert families["mien_stage_latency_seconds"].type == "summary" and families["mien_frames_read"].type == "counter"


def test_seats_are_limited_and_come_back() -> None:
    with served(max_subscribers=2) as run:
        with run.watching("/faces"), run.watching("/faces"):
            wait_for(lambda: run.page.rows.subscribers == 2)
            status, answer, _ = run.ask("/faces")
            assert status == 503 and answer.getheader("Retry-After") == "5" and run.page.rows.refused == 1
            assert run.ask("/stream.mjpg")[0] == 200  # seats of another feed
        wait_for(lambda: run.page.rows.subscribers == 0)
        assert run.ask("/faces")[0] == 200


def test_the_page_needs_nothing_else() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("<script>") == text.count("<style>") == 1 and "<script " not in text
    assert set(re.findall(r"https?://[^'\" ]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert not re.search(r"<[^>]* (?:on\w+|style)=", text.split("<script>")[0])  # the policy would refuse it
    with served() as run:
        assert run.ask("/")[2].decode() == text


def test_a_failing_answer_is_logged_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with served() as run:
        monkeypatch.setattr(run.page.stats, "to_dict", lambda **_: 1 / 0)
        run.write()
        assert run.ask("/stats")[0] == 500
        assert "'/stats' failed: ZeroDivisionError" in caplog.text
        assert run.ask("/healthz")[0] == 200
