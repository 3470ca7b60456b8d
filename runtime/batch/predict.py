"""Writes rows, annotated pictures and face crops for files, folders and videos. An unreadable file is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from ..atomic_file import write_file
from ..capture.open_capture import open_capture
from ..errors import InputError
from ..file_kinds import is_folder
from ..output.anonymize import blur_faces, blurred_frame
from ..output.overlay import USUAL, OverlayStyle, draw_faces
from ..output.rows import RowFile, csv_file, found_row, frame_row, picture_head
from ..output.track_crops import TrackCrops
from ..output.video_file import VideoSink
from ..output.view3d import FaceView, face_views
from ..output_paths import followed
from ..pictures.decode import PictureFrame
from ..pictures.folders import is_picture, list_pictures
from ..pictures.images import derived_suffix, encode_image, read_frames
from ..pipeline.frame_classifier import FrameClassifier
from ..pipeline.pipeline import Pipeline
from ..values import Classes, Faces, Frame, Image, Progress
from ..vision.face_crop import face_crop
from .new_files import NewFiles
from .parallel import counter, map_pictures


class RowWriter(Protocol):
    """Receiver of the rows, in the order of the inputs."""

    def write(self, row: dict[str, Any]) -> bool:
        """Take one row; return False to end the run."""
        ...

    def close(self) -> None:
        """Complete what was written."""
        ...


@dataclass(frozen=True, slots=True)
class Outputs:
    """Outputs for each picture, in addition to the rows.

    Attributes:
        draw: Folder for pictures and videos with the faces drawn; created if missing.
        blur: Hide the faces in them.
        style: What is drawn of the faces.
        crops: Folder for the crop of each face, or of each tracked face of a video; created if missing.
        views: Collects the faces of pictures, but not of videos, for the 3D page.
    """

    draw: Path | None = None
    blur: bool = False
    style: OverlayStyle = USUAL
    crops: Path | None = None
    views: list[FaceView] | None = None


NOTHING = Outputs()


@dataclass(frozen=True, slots=True)
class PictureResult:
    """Faces found in a picture, or in one frame of an animation.

    Attributes:
        row: The faces or classes as a JSON object.
        drawn: Image file with the faces drawn into the picture, if requested.
        crops: Image files of the faces, if requested.
        views: The faces for the 3D page, if requested.
    """

    row: dict[str, Any]
    drawn: bytes | None = None
    crops: tuple[bytes, ...] = ()
    views: tuple[FaceView, ...] = ()


def predict_picture(
    pipeline: Pipeline | FrameClassifier,
    frame: PictureFrame,
    *,
    name: str,
    outputs: Outputs = NOTHING,
    suffix: str = ".png",
) -> PictureResult:
    """Find the faces or the classes of a picture, or of one frame of an animation.

    Args:
        pipeline: Pipeline or frame classifier.
        frame: The picture; its index, if any, goes into the row.
        name: Name of the file in the row.
        outputs: Further outputs to create.
        suffix: Format of the pictures to create.
    """
    pixels = frame.pixels
    found = pipeline(pixels)
    faces, classes = (found, None) if isinstance(found, Faces) else (Faces.empty(), found)
    row = picture_head(name, frame.index) | found_row(pixels, faces, classes)
    crops = range(len(faces)) if outputs.crops is not None else ()
    title = Path(name).name if frame.index is None else f"{Path(name).name}, frame {frame.index}"
    return PictureResult(
        row,
        None if outputs.draw is None else encode_image(_drawn(pixels, faces, classes, outputs), suffix=suffix),
        tuple(encode_image(face_crop(pixels, faces, i), suffix=suffix) for i in crops),
        () if outputs.views is None else tuple(face_views(title, pixels, faces)),
    )


def _drawn(pixels: Image, faces: Faces, classes: Classes | None, outputs: Outputs) -> Image:
    shown = blur_faces(pixels, faces) if outputs.blur else pixels
    return draw_faces(shown, faces, classes=classes, style=outputs.style)


class Predictor:
    """Finder of faces or classes in pictures and videos, which writes the results in input order.

    Args:
        pipeline: Finds them.
        json_target: File of JSON lines, ``-`` for standard output, or None.
        csv: File with one line per face, or None.
        report: Receives the rows too; closed with the files.
        outputs: What else is made.
        workers: Pictures processed at once, one thread each; videos are processed one at a time.
        reserved: Other files that the command will write.

    Attributes:
        failures: One message per input that was skipped.

    Raises:
        OutputError: A folder or a file cannot be written.
    """

    def __init__(
        self,
        pipeline: Pipeline | FrameClassifier,
        *,
        json_target: str | None = None,
        csv: Path | None = None,
        report: RowWriter | None = None,
        outputs: Outputs = NOTHING,
        workers: int = 1,
        reserved: Sequence[Path] = (),
    ) -> None:
        self.failures: list[str] = []
        self._pipeline = pipeline
        self._track: Callable[[Iterable[Frame]], Iterator[tuple[Frame, Faces]]] = pipeline.track
        if isinstance(pipeline, Pipeline):
            self._track = partial(pipeline.track, thorough=outputs.blur)
        self._workers = workers
        self._outputs = outputs
        self._frame_progress: Progress | None = None
        others = {followed(Path(file)) for file in (*reserved, csv, json_target) if file is not None}
        self._drawings = None if outputs.draw is None else NewFiles(outputs.draw, others)
        self._crops = None if outputs.crops is None else NewFiles(outputs.crops, others)
        self._files: list[RowFile] = []
        if json_target is not None:
            self._files.append(RowFile(json_target))
        if csv is not None:
            self._files.append(csv_file(csv, pictures=True))
        self._writers: list[RowWriter] = [*self._files, *([report] if report is not None else [])]

    def run(self, inputs: Sequence[Path], *, progress: Progress | None = None) -> None:
        """Process all inputs, or stop early when the reader of the rows has closed the pipe.

        Args:
            inputs: Pictures, folders of pictures, and videos.
            progress: Called after each file, or after each frame of a single video.

        Raises:
            OutputError: A result cannot be written.
        """
        paths = list_pictures(inputs, self.failures)
        self._frame_progress = progress if len(paths) == 1 else None
        tick = counter(len(paths), progress)
        for are_pictures, group in groupby(paths, key=is_picture):
            process = self._pictures if are_pictures else self._videos
            if not process(list(group), tick):
                return

    def _pictures(self, paths: Sequence[Path], tick: Callable[[], None]) -> bool:
        def work(path: Path) -> Iterator[PictureResult]:
            for frame in read_frames(path):
                yield predict_picture(
                    self._pipeline, frame, name=str(path), outputs=self._outputs, suffix=derived_suffix(path)
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
        suffix = derived_suffix(path)
        if self._outputs.views is not None:
            self._outputs.views.extend(result.views)
        if self._drawings is not None and result.drawn is not None:
            with self._drawings.named(path, f"{number}{suffix}") as file:
                write_file(file, result.drawn)
        if self._crops is not None:
            for face, crop in enumerate(result.crops):
                with self._crops.named(path, f"{number}-face{face}{suffix}") as file:
                    write_file(file, crop)
        return self._write_row(result.row)

    def _write_row(self, row: dict[str, Any]) -> bool:
        going = [writer.write(row) for writer in self._writers]  # each of them gets the row
        return all(going)

    def _video(self, path: Path) -> bool:
        outputs, best, going = self._outputs, TrackCrops(), True
        with open_capture(path) as capture, ExitStack() as closing:
            sink = None
            if self._drawings is not None:
                sink = VideoSink(closing.enter_context(self._drawings.named(path, ".mp4")), fps=capture.fps)
                closing.callback(sink.close)
            for frame, faces in self._track(capture):
                if outputs.blur:
                    frame, faces = blurred_frame(frame, faces)
                if self._crops is not None:
                    best.update(frame.pixels, faces)
                if sink is not None:
                    drawn = draw_faces(frame.pixels, faces, classes=frame.classes, style=outputs.style)
                    sink.write(frame, faces, drawn)
                going = self._write_row({"image": str(path)} | frame_row(frame, faces))
                if not going:
                    break
                if self._frame_progress is not None and (capture.frame_count or 0) > frame.index:
                    self._frame_progress(frame.index + 1, capture.frame_count or 0)
            if self._crops is not None:
                for track, crop in best.crops().items():
                    with self._crops.named(path, f"-track{track}.jpg") as file:
                        write_file(file, encode_image(crop, suffix=".jpg"))
            if going and capture.damage is not None:
                self.failures.append(f"{capture.damage}; the rows hold the frames that could be read")
        return going

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            for file in self._files:
                file.discard()
        with ExitStack() as closing:  # closes each, even if another fails
            for writer in reversed(self._writers):
                closing.callback(writer.close)


def several_pictures(inputs: Sequence[Path]) -> bool:
    """Check whether the inputs hold, or may hold, more than one picture."""
    return any(is_folder(path) for path in inputs) or sum(map(is_picture, inputs)) > 1
