"""`mien predict`: rows and pictures for files, folders and videos. One bad file does not end the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from .capture import open_capture
from .errors import InputError, OutputError
from .images import IMAGE_SUFFIXES, expand, read_image, write_image
from .overlay import draw_faces
from .pipeline import Pipeline
from .row_sinks import RowFile
from .rows import face_rows
from .sinks import VideoSink
from .values import Faces, size_of


class Predictor:
    """Writes results as they come. `failures` lists what could not be read, a line each.

    found: is told of each picture's faces (not of a video's), besides.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        json_target: str,
        draw_folder: Path | None,
        found: Callable[[str, Faces], None] | None = None,
    ) -> None:
        self._found = found
        self.failures: list[str] = []
        self._pipeline = pipeline
        self._draw = draw_folder
        self._drawn: set[Path] = set()
        if draw_folder is not None:
            try:
                draw_folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"cannot make the folder {draw_folder} ({error.strerror})") from error
        self._rows = RowFile(json_target)

    def run(self, inputs: Sequence[Path]) -> None:
        """Process pictures, folders of pictures, and videos, until all are done or nobody reads the rows."""
        for path in expand(inputs, self.failures):
            try:
                go_on = self._picture(path) if _is_picture(path) else self._video(path)
            except InputError as error:
                self.failures.append(str(error))
                continue
            if not go_on:
                return

    def _picture(self, path: Path) -> bool:
        pixels = read_image(path)
        faces = self._pipeline(pixels)
        if self._found is not None:
            self._found(path.name, faces)
        if self._draw is not None:
            write_image(self._free_name(self._draw, path, ".png"), draw_faces(pixels, faces))
        return self._rows.write({"image": str(path), "faces": face_rows(faces, size_of(pixels))})

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
        """Name a drawn file after its source; a second source of that name in this run gets a number."""
        path, number = folder / f"{source.stem}{suffix}", 1
        while path in self._drawn:
            number += 1
            path = folder / f"{source.stem}-{number}{suffix}"
        self._drawn.add(path)
        return path

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES or not path.is_file()
