"""Makes the README's pictures in ``docs``: ``make pictures`` (needs Chromium)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ...runtime.capture.demo_camera import DEMO_FPS, DemoCamera
from ...runtime.output.overlay import draw_faces
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.values import Frame, Image
from ..report.html_report import to_html
from ..report.report import BenchReport

DOCS = Path(__file__).parents[2] / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FILM_FRAMES, FILM_STEP, FILM_SIZE = 120, 3, (480, 360)
JPEG_QUALITY = 88
WAIT_MS = 12_000


def film() -> list[Image]:
    """Track the demo face and draw it; keep every third frame, at 480 × 360 px."""
    camera = DemoCamera()
    frames = (Frame(camera.frame(i), int(i * 1e9 / DEMO_FPS), i) for i in range(FILM_FRAMES))
    with Pipeline.load() as pipeline:
        drawn = [draw_faces(frame.pixels, faces) for frame, faces in pipeline.track(frames)]
    resized = (cv2.resize(picture, FILM_SIZE, interpolation=cv2.INTER_AREA) for picture in drawn[::FILM_STEP])
    return [np.asarray(picture, np.uint8) for picture in resized]


def write_film(pictures: list[Image], path: Path) -> None:
    """Write pictures as an endless animation."""
    animation = cv2.Animation()
    animation.frames = pictures
    animation.durations = [round(1000 * FILM_STEP / DEMO_FPS)] * len(pictures)
    if not cv2.imwriteanimation(str(path), animation, [cv2.IMWRITE_WEBP_QUALITY, 60]):
        raise SystemExit(f"OpenCV cannot write {path}")


def screenshot(address: str, path: Path, *, width: int, height: int) -> None:
    """Take a picture of a page after it has run for some seconds.

    Args:
        address: URL.
        path: JPEG file to write.
        width: Width of the window, in px.
        height: Height of the window, in px.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise SystemExit("playwright is not installed; run: pip install playwright") from None
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed; on Debian: sudo apt install chromium")
    with sync_playwright() as player, player.chromium.launch(executable_path=browser, args=["--no-sandbox"]) as opened:
        page = opened.new_page(viewport={"width": width, "height": height})
        page.goto(address)
        page.wait_for_timeout(WAIT_MS)
        page.screenshot(path=str(path), type="jpeg", quality=JPEG_QUALITY)


@contextmanager
def live_page() -> Iterator[str]:
    """Serve the live page of the demo camera, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "mien", "webcam", "demo", "--serve", address]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(100):
                time.sleep(0.2)
                try:
                    urllib.request.urlopen(f"http://{address}/", timeout=1).close()
                    break
                except OSError:
                    continue
            yield f"http://{address}/"
        finally:
            server.terminate()


def main() -> None:
    """Write all pictures."""
    pictures = film()
    write_film(pictures, DOCS / "demo.webp")
    with live_page() as address:
        screenshot(address, DOCS / "live_page.jpg", width=1000, height=760)
    report = BenchReport.from_json((DOCS / "results/bench.json").read_text(encoding="utf-8"), origin="bench.json")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "bench.html"
        page.write_text(to_html(report), encoding="utf-8")
        screenshot(page.as_uri(), DOCS / "bench_page.jpg", width=1280, height=900)
    for name in ("demo.webp", "live_page.jpg", "bench_page.jpg"):
        print(f"{DOCS / name}: {(DOCS / name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
