"""`mien predict`: rows and pictures for files, folders and videos. One bad file does not end the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

from mien.runtime.batch.parallel import counter, map_pictures
from mien.runtime.capture.capture import open_capture
from mien.runtime.errors import InputError, OutputError
from mien.runtime.faces.pipeline import Pipeline
from mien.runtime.images import IMAGE_SUFFIXES, encode_image, expand, read_image, write_file
from mien.runtime.output.overlay import draw_faces
from mien.runtime.output.rows import RowFile, face_rows
from mien.runtime.output.video_file import VideoSink
from mien.runtime.values import Faces, Image, Progress, size_of


@dataclass(frozen=True, slots=True)
class PictureResult:
    """A picture's faces. row: as JSON. drawn: the picture with them as a PNG file's bytes, if it was wanted."""

    faces: Faces
    row: dict[str, Any]
    drawn: bytes | None = None


def predict_picture(pipeline: Pipeline, pixels: Image, *, name: str, draw: bool = False) -> PictureResult:
    """Find the faces of a picture (h, w, 3) uint8 BGR.

    Raises:
        InputError: not such a picture.
    """
    faces = pipeline(pixels)
    drawn = encode_image(draw_faces(pixels, faces), suffix=".png") if draw else None
    return PictureResult(faces, {"image": name, "faces": face_rows(faces, size_of(pixels))}, drawn)


class Predictor:
    """Writes results as they come, in the order of the inputs. `failures` lists what could not be read, a line each.

    workers: pictures at once, each on a thread of its own; a video is followed frame by frame, by itself.
    found: is told of each picture's faces (not of a video's), besides.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        json_target: str,
        draw_folder: Path | None,
        workers: int = 1,
        found: Callable[[str, Faces], None] | None = None,
    ) -> None:
        self._found = found
        self.failures: list[str] = []
        self._pipeline = pipeline
        self._workers = workers
        self._draw = draw_folder
        self._taken: set[Path] = set()
        """Files that nothing may be drawn over: the inputs, and what this run has drawn."""
        if draw_folder is not None:
            try:
                draw_folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"cannot make the folder {draw_folder} ({error.strerror})") from error
        self._rows = RowFile(json_target)

    def run(self, inputs: Sequence[Path], *, progress: Progress | None = None) -> None:
        """Process pictures, folders of pictures, and videos, until all are done or nobody reads the rows."""
        paths = list(expand(inputs, self.failures))
        if self._draw is not None:
            self._taken |= {path.resolve() for path in paths}
        tick = counter(len(paths), progress)
        for are_pictures, group in groupby(paths, key=is_picture):
            some = list(group)
            if not (self._pictures(some, tick) if are_pictures else self._videos(some, tick)):
                return

    def _pictures(self, paths: Sequence[Path], tick: Callable[[], None]) -> bool:
        def look(path: Path) -> PictureResult:
            return predict_picture(self._pipeline, read_image(path), name=str(path), draw=self._draw is not None)

        return map_pictures(paths, look, self._write, workers=self._workers, failed=self.failures.append, tick=tick)

    def _videos(self, paths: Sequence[Path], tick: Callable[[], None]) -> bool:
        for path in paths:
            try:
                if not self._video(path):
                    return False
            except InputError as error:
                self.failures.append(str(error))
            tick()
        return True

    def _write(self, path: Path, result: PictureResult) -> bool:
        if self._found is not None:
            self._found(path.name, result.faces)
        if self._draw is not None and result.drawn is not None:
            write_file(self._free_name(self._draw, path, ".png"), result.drawn)
        return self._rows.write(result.row)

    def _video(self, path: Path) -> bool:
        with open_capture(str(path)) as capture:
            sink = None
            if self._draw is not None:
                sink = VideoSink(self._free_name(self._draw, path, ".mp4"), fps=capture.fps or 30.0)
            try:
                for frame, faces in self._pipeline.track(capture):
                    rows = face_rows(faces, size_of(frame.pixels))
                    head = {"image": str(path), "frame": frame.index, "timestamp_ns": frame.timestamp_ns}
                    if sink is not None:
                        sink.write(frame, faces, draw_faces(frame.pixels, faces))
                    if not self._rows.write(head | {"faces": rows}):
                        return False
            finally:
                if sink is not None:
                    sink.close()
            if capture.truncated:
                self.failures.append(f"{path} ended before its last frame; the frames before are in the rows")
        return True

    def _free_name(self, folder: Path, source: Path, suffix: str) -> Path:
        """Name a drawn file after its source; where that is an input or another's drawing, it gets a number."""
        path, number = folder / f"{source.stem}{suffix}", 1
        while path.resolve() in self._taken:
            number += 1
            path = folder / f"{source.stem}-{number}{suffix}"
        self._taken.add(path.resolve())
        return path

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()


def check_draw_folder(folder: Path, inputs: Sequence[Path]) -> None:
    """Raise InputError if pictures drawn into `folder` would lie among the inputs, for the next run to find."""
    for place in inputs:
        if place.is_dir() and folder.resolve().is_relative_to(place.resolve()):
            raise InputError(
                f"--draw {folder} lies within the input {place}: the next run would take drawn pictures for new ones; "
                "give a folder beside it"
            )


def is_picture(path: Path) -> bool:
    """Whether a file is taken for a picture; a missing one is, whose error then says so."""
    return path.suffix.lower() in IMAGE_SUFFIXES or not path.is_file()


def several_pictures(inputs: Sequence[Path]) -> bool:
    """Whether there is more to look at than one picture, or videos: worth a thread each."""
    return any(path.is_dir() for path in inputs) or sum(map(is_picture, inputs)) > 1
