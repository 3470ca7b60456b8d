"""Write rows and annotated pictures for files, folders and videos. An unreadable file is skipped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

from ..capture.capture import open_capture
from ..decode_picture import PictureFrame
from ..errors import InputError, OutputError
from ..faces.pipeline import Pipeline
from ..file_kinds import is_folder
from ..folders import is_picture, list_pictures
from ..images import encode_image, read_frames, write_file
from ..interrupts import postponed
from ..output.anonymize import blur_faces, blurred_frame
from ..output.overlay import BLURRED, USUAL, draw_faces
from ..output.rows import RowFile, face_rows, picture_head
from ..output.video_file import VideoSink
from ..output.view3d import FaceView, face_views
from ..outputs import free_path
from ..values import Faces, Progress, size_of
from .parallel import counter, map_pictures

MAX_STEM_BYTES = 200
"""Longest part of a picture's name in that of its drawing; file systems take 255 bytes."""


@dataclass(frozen=True, slots=True)
class PictureResult:
    """Faces found in a picture, or in one frame of an animation.

    Attributes:
        faces: The faces.
        row: The same as a JSON object.
        drawn: PNG file with the faces drawn into the picture, if requested.
        views: The faces for the 3D page, if requested.
    """

    faces: Faces
    row: dict[str, Any]
    drawn: bytes | None = None
    views: tuple[FaceView, ...] = ()


def predict_picture(
    pipeline: Pipeline, frame: PictureFrame, *, name: str, draw: bool = False, blur: bool = False, view: bool = False
) -> PictureResult:
    """Find the faces in a picture, or in one frame of an animation.

    Args:
        pipeline: Finds the faces.
        frame: The picture; its index, if it has one, goes into the row.
        name: Name of the file in the row.
        draw: Draw the faces too.
        blur: Hide the faces in the drawn picture.
        view: Prepare the faces for the 3D page too.
    """
    faces = pipeline(frame.pixels)
    drawn = None
    if draw:
        pixels, style = (blur_faces(frame.pixels, faces), BLURRED) if blur else (frame.pixels, USUAL)
        drawn = encode_image(draw_faces(pixels, faces, style=style), suffix=".png")
    head = picture_head(name, frame.index)
    row = head | {"faces": face_rows(faces, size_of(frame.pixels))}
    if not view:
        return PictureResult(faces, row, drawn)
    title = Path(name).name if frame.index is None else f"{Path(name).name}, frame {frame.index}"
    return PictureResult(faces, row, drawn, tuple(face_views(title, frame.pixels, faces)))


class Predictor:
    """Find faces in pictures and videos, and write the results in the order of the inputs.

    Args:
        pipeline: Finds the faces.
        json_target: File of JSON lines, or ``-`` for standard output.
        draw_folder: Folder for pictures and videos with the faces drawn; created if missing.
        blur: Hide the faces in them.
        workers: Pictures processed at once, one thread each; videos are processed one at a time.
        views: List that collects the faces of pictures, but not of videos, for the 3D page.
        reserved: Other files that the command will write.

    Attributes:
        failures: One message per input that was skipped.

    Raises:
        OutputError: The folder or the file cannot be written.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        json_target: str,
        draw_folder: Path | None,
        blur: bool = False,
        workers: int = 1,
        views: list[FaceView] | None = None,
        reserved: Sequence[Path] = (),
    ) -> None:
        self._views = views
        self.failures: list[str] = []
        self._pipeline = pipeline
        self._workers = workers
        self._draw = draw_folder
        self._blur = blur
        self._taken = {path.resolve() for path in reserved}
        """Files that are about to be made."""
        if draw_folder is not None:
            try:
                draw_folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"cannot create the folder {draw_folder} ({error.strerror})") from error
        self._rows = RowFile(json_target)
        if json_target != "-":
            self._taken.add(Path(json_target).resolve())

    def run(self, inputs: Sequence[Path], *, progress: Progress | None = None) -> None:
        """Process all inputs, or stop early when the reader of the rows has closed the pipe.

        Args:
            inputs: Pictures, folders of pictures, and videos.
            progress: Called after each file.

        Raises:
            OutputError: A result cannot be written.
        """
        paths = list_pictures(inputs, self.failures)
        tick = counter(len(paths), progress)
        for are_pictures, group in groupby(paths, key=is_picture):
            process = self._pictures if are_pictures else self._videos
            if not process(list(group), tick):
                return

    def _pictures(self, paths: Sequence[Path], tick: Callable[[], None]) -> bool:
        def work(path: Path) -> Iterator[PictureResult]:
            draw, view = self._draw is not None, self._views is not None
            return (
                predict_picture(self._pipeline, f, name=str(path), draw=draw, blur=self._blur, view=view)
                for f in read_frames(path)
            )

        return map_pictures(paths, work, self._write, workers=self._workers, failed=self.failures.append, tick=tick)

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
        number = f"-{result.row['frame']}" if "frame" in result.row else ""
        if self._views is not None:
            self._views += result.views
        if self._draw is not None and result.drawn is not None:
            write_file(self._free_name(self._draw, path, f"{number}.png"), result.drawn)
        return self._rows.write(result.row)

    def _video(self, path: Path) -> bool:
        with open_capture(str(path)) as capture:
            sink = None
            if self._draw is not None:
                sink = VideoSink(self._free_name(self._draw, path, ".mp4"), fps=capture.fps or 30.0)
            try:
                for frame, faces in self._pipeline.track(capture, thorough=self._blur):
                    if self._blur:
                        frame, faces = blurred_frame(frame, faces)
                    rows = face_rows(faces, size_of(frame.pixels))
                    head = {"image": str(path), "frame": frame.index, "timestamp_ns": frame.timestamp_ns}
                    if sink is not None:
                        style = BLURRED if self._blur else USUAL
                        sink.write(frame, faces, draw_faces(frame.pixels, faces, style=style))
                    if not self._rows.write(head | {"faces": rows}):
                        return False
            finally:
                if sink is not None:
                    with postponed():
                        sink.close()
            if capture.damage is not None:
                self.failures.append(f"{capture.damage}; the rows hold the frames that could be read")
        return True

    def _free_name(self, folder: Path, source: Path, suffix: str) -> Path:
        """Name a drawn file after its source; no existing file is replaced, as the user did not name this one."""
        stem = os.fsencode(source.stem)[:MAX_STEM_BYTES].decode(errors="ignore")
        path = free_path(folder.resolve() / f"{stem}{suffix}", self._taken)
        self._taken.add(path)
        return path

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.__exit__(kind, error, trace)


def check_draw_folder(folder: Path, inputs: Sequence[Path]) -> None:
    """Raise InputError if `folder` is inside an input folder, where the next run would read the drawn pictures."""
    for place in inputs:
        if is_folder(place) and folder.resolve().is_relative_to(place.resolve()):
            raise InputError(
                f"--draw {folder} is inside the input {place}, where the next run would read the drawn pictures; "
                "give a folder outside it"
            )


def several_pictures(inputs: Sequence[Path]) -> bool:
    """Check whether the inputs hold, or may hold, more than one picture."""
    return any(is_folder(path) for path in inputs) or sum(map(is_picture, inputs)) > 1
