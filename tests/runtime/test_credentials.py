from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mien.cli import app
from mien.runtime.credentials import mask_secrets, mask_text
from mien.runtime.errors import InputError


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://user:pw@cam/1", "rtsp://***@cam/1"),
        ("rtsp://user:pa/ss@cam:554/1", "rtsp://***@cam:554/1"),
        ("rtsp://user:p@ss@cam/1", "rtsp://***@cam/1"),
        ("rtsp://user:pa?ss@cam/1", "rtsp://***@cam/1"),
        ("rtsp://user:pa#ss@cam/1", "rtsp://***@cam/1"),
        ("rtsp://user:12/34@cam/1", "rtsp://***@cam/1"),
        ("rtsp:/user:pw@cam/1", "rtsp:/***@cam/1"),
        ("rtsp:///user:pw@cam/1", "rtsp:///***@cam/1"),
        ("RTSP://user@cam", "RTSP://***@cam"),
        ("http://cam/video?user=me&pwd=secret", "http://cam/video?user=***&pwd=***"),
        ("http://cam:80/video?u=me;p=secret#x=1", "http://cam:80/video?u=***;p=***#x=***"),
        ("http://cam/video?to=me@home&pwd=secret", "http://cam/video?to=***&pwd=***"),
        ("http://u:p@cam/video?pwd=secret", "http://***@cam/video?pwd=***"),
        ("http://cam/video?secret", "http://cam/video?***"),
        ("http://cam/video#secret", "http://cam/video#***"),
        ("http://[fe80::1]:8080/v?a=b", "http://[fe80::1]:8080/v?a=***"),
        ("http://cam:8080/file.mp4", "http://cam:8080/file.mp4"),
        ("gst:rtspsrc location=rtsp://u:p@cam/1 user-id=me user-pw=secret ! fakesink",
         "gst:rtspsrc location=rtsp://***@cam/1 user-id=*** user-pw=*** ! fakesink"),
        ('gst:souphttpsrc location="http://u:p@cam/1" user-pw="two words" ! x',
         'gst:souphttpsrc location="http://***@cam/1" user-pw=*** ! x'),
        ("gst:srtsrc uri=srt://h:1?passphrase=abc passphrase=abc ! x",
         "gst:srtsrc uri=srt://h:1?passphrase=*** passphrase=*** ! x"),
        ("gst:v4l2src device=/dev/video0 ! video/x-raw,width=640 ! appsink",
         "gst:v4l2src device=/dev/video0 ! video/x-raw,width=640 ! appsink"),
        ("clip@home.mp4", "clip@home.mp4"),
        ("12:30.mp4", "12:30.mp4"),
        ("0", "0"),
    ],
)  # fmt: skip
def test_secrets_are_masked_and_the_rest_stays(source: str, shown: str) -> None:
    assert mask_secrets(source) == shown


SOURCES = {
    "http": "http://user:pa55word@127.0.0.1:9/file.mp4",
    "mistyped": "rtsp:/user:pa55word@127.0.0.1:9/live",
    "query": "http://127.0.0.1:9/live?user=admin&pwd=pa55word",
    "slash": "rtsp://user:pa55word/x@127.0.0.1:9/live",
    "pipeline": "gst:rtspsrc location=rtsp://127.0.0.1:9/a user-id=admin user-pw=pa55word ! decodebin ! appsink",
    "storage": "s3://key:pa55word@bucket/pictures?region=eu",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize(
    "command",
    [
        ["webcam", "--no-show"],
        ["--verbose", "webcam", "--no-show"],
        ["predict"],
        ["predict", "--view3d", "page.html"],
        ["info"],
        ["evaluate", "detector", "--data"],
    ],
    ids=lambda command: "-".join(command).strip("-"),
)
def test_no_command_shows_a_password(
    command: list[str], source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*command, source])
    assert result.exit_code == 2 and "error:" in result.stderr + "error:" * ("skipped:" in result.stderr)
    assert "pa55word" not in result.output


def test_every_error_masks_what_it_quotes() -> None:
    error = InputError("(rtsp://user:secret@host/live) cannot be opened; see https://example.org/help")
    assert str(error) == "(rtsp://***@host/live) cannot be opened; see https://example.org/help"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("lost http://a:b@h/x?t=1, waiting", "lost http://***@h/x?t=***, waiting"),
        ("two: rtsp://a:b@h and rtsp://c:d@k", "two: rtsp://***@h and rtsp://***@k"),
        ("cannot open gst:src pass=x ! sink", "cannot open gst:src pass=*** ! sink"),
        ("write to me@example.org about 12:30", "write to me@example.org about 12:30"),
    ],
)
def test_a_text_keeps_all_but_the_secrets(text: str, masked: str) -> None:
    assert mask_text(text) == masked
