from __future__ import annotations

import pytest

from mien.runtime.capture.credentials import mask_secrets


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
