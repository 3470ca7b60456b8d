"""Report every few seconds how many people are in view: python examples/edge_service.py [SOURCE] [SECONDS] [URL]

Prints one line of JSON per interval, or sends it to URL by HTTP POST. SIGTERM, as sent by systemd, stops the service
after a last report; docs/jetson.md describes a unit file.
"""

import json
import signal
import sys
import urllib.request

import numpy as np

from mien import Pipeline, open_capture

source = sys.argv[1] if len(sys.argv) > 1 else "0"
interval_s = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
url = sys.argv[3] if len(sys.argv) > 3 else None


def end(*_: object) -> None:
    """Turn SIGTERM into an exception that ends the loop."""
    raise SystemExit


def report(people: set[int], ages: list[float], seconds: float) -> None:
    """Send the figures of one interval; if the network is down, only this report is lost."""
    mean = round(float(np.mean(ages)), 1) if ages else None
    row = json.dumps({"seconds": round(seconds, 1), "people": len(people), "mean_age": mean})
    if url is None:
        print(row, flush=True)
        return
    try:
        request = urllib.request.Request(url, row.encode(), {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=5).close()
    except OSError as error:
        print(f"not sent: {error}", file=sys.stderr)


signal.signal(signal.SIGTERM, end)
people: set[int] = set()
ages: list[float] = []
begun_ns = now_ns = None
try:
    with Pipeline.load() as pipeline, open_capture(source) as capture:
        for frame, faces in pipeline.track(capture):
            now_ns = frame.timestamp_ns
            begun_ns = now_ns if begun_ns is None else begun_ns
            people.update(faces.track_id.tolist())
            ages += faces.age[np.isfinite(faces.age)].tolist()
            if now_ns - begun_ns >= interval_s * 1e9:
                report(people, ages, (now_ns - begun_ns) / 1e9)
                people, ages, begun_ns = set(), [], now_ns
finally:
    if begun_ns is not None and now_ns is not None and now_ns > begun_ns:
        report(people, ages, (now_ns - begun_ns) / 1e9)
