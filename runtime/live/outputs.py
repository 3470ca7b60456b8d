"""Opens the outputs of a live run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..capture.capture import Capture
from ..errors import MienError
from ..output.encoders import check_video_path
from ..output.rows import RowFile, RowSink, csv_file
from ..output.sinks import BackgroundSink, Sink, close_all
from ..output.video_file import VideoSink
from ..output_paths import check_outputs, file_of, has_reader


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Files that a live run writes; None for those it does not.

    Attributes:
        video: Video with the faces drawn.
        json: JSON lines; ``-`` is standard output.
        csv: One line per face.
        stats: Stage latencies, written at the end.
    """

    video: Path | None = None
    json: str | None = None
    csv: Path | None = None
    stats: Path | None = None

    def check(self, inputs: Iterable[Path | None]) -> None:
        """Check the files before a model is loaded.

        Args:
            inputs: Files and folders that the run reads.

        Raises:
            InputError: An output is an input, two outputs share a file, or one other than `json` is ``-``.
            OutputError: A file cannot be written.
        """
        outputs = {"--output": self.video, "--csv": self.csv, "--stats": self.stats, "--json": file_of(self.json)}
        check_outputs(outputs, inputs)
        if self.video is not None:
            check_video_path(self.video)

    @property
    def per_frame(self) -> bool:
        """True if every frame is to be written somewhere."""
        return any(target is not None for target in (self.video, self.json, self.csv))

    def sink_openers(self, capture: Capture) -> list[Callable[[], Sink]]:
        """List functions that open the sinks of the files written per frame."""

        def background(sink: Sink, target: Path | str) -> Sink:
            return BackgroundSink(sink, live=capture.live, has_reader=has_reader(target))

        openers: list[Callable[[], Sink]] = []
        if (video := self.video) is not None:
            openers.append(lambda: background(VideoSink(video, fps=capture.fps), video))
        if (csv := self.csv) is not None:
            openers.append(lambda: background(RowSink(csv_file(csv, live=capture.live)), csv))
        if (json := self.json) is not None:
            openers.append(lambda: background(RowSink(RowFile(json, live=capture.live)), json))
        return openers


def open_sinks(openers: Sequence[Callable[[], Sink]]) -> list[Sink]:
    """Open sinks in order; if one fails, close those before it.

    Raises:
        MienError: A sink cannot be opened.
    """
    sinks: list[Sink] = []
    try:
        for opener in openers:
            sinks.append(opener())
    except MienError:
        close_all(sinks)
        raise
    return sinks
