"""`mien predict`: rows and pictures for files, folders and videos. One bad file does not end the run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from .capture import open_capture
from .errors import InputError, OutputError
from .images import IMAGE_SUFFIXES, find_images, read_image, write_image
from .overlay import draw_faces
from .pipeline import Pipeline
from .rows import face_rows
from .sinks import VideoSink, check_writable
from .values import Faces, Frame, Image, size_of


class Predictor:
    """Writes results as they come. `failures` lists what could not be read, a line each."""

    def __init__(self, pipeline: Pipeline, *, json_target: str, draw_folder: Path | None) -> None:
        self.failures: list[str] = []
        self._pipeline = pipeline
        self._draw = draw_folder
        if draw_folder is not None:
            try:
                draw_folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"cannot make the folder {draw_folder} ({error})") from error
        self._handle: IO[str] = sys.stdout
        self._owned = json_target != "-"
        if self._owned:
            check_writable(Path(json_target))
            self._handle = Path(json_target).open("w", encoding="utf-8")

    def expand(self, inputs: Sequence[Path]) -> Iterator[Path]:
        """Yield the files to read: folders give their pictures."""
        for path in inputs:
            if path.is_dir():
                files = find_images(path)
                if not files:
                    self.failures.append(f"{path} holds no pictures")
                yield from files
            else:
                yield path

    def predict(self, path: Path) -> None:
        """Process one picture or video; what cannot be read is added to `failures`."""
        try:
            if path.suffix.lower() in IMAGE_SUFFIXES or not path.is_file():
                self._picture(path)
            else:
                self._video(path)
        except InputError as error:
            self.failures.append(str(error))

    def _picture(self, path: Path) -> None:
        pixels = read_image(path)
        faces = self._pipeline(pixels)
        self._write({"image": str(path)}, faces, pixels)
        if self._draw is not None:
            write_image(self._draw / f"{path.stem}.png", draw_faces(pixels, faces))

    def _video(self, path: Path) -> None:
        with open_capture(str(path)) as capture:
            sink = (
                VideoSink(self._draw / f"{path.stem}.mp4", fps=capture.fps or 30.0) if self._draw is not None else None
            )
            try:
                for frame, faces in self._pipeline.track(capture):
                    head = {"image": str(path), "frame": frame.index, "timestamp_ns": frame.timestamp_ns}
                    self._write(head, faces, frame.pixels)
                    self._draw_frame(sink, frame, faces)
            finally:
                if sink is not None:
                    sink.close()
            if capture.truncated:
                self.failures.append(f"{path} ended before its last frame; the frames before are in the rows")

    def _draw_frame(self, sink: VideoSink | None, frame: Frame, faces: Faces) -> None:
        if sink is not None:
            sink.write(frame, faces, draw_faces(frame.pixels, faces))

    def _write(self, head: dict[str, Any], faces: Faces, pixels: Image) -> None:
        try:
            self._handle.write(json.dumps(head | {"faces": face_rows(faces, size_of(pixels))}) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write the JSON rows ({error})") from error

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned:
            self._handle.close()
