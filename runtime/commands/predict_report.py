"""What `mien predict` tells a person: a line per picture if nothing else is written, and a summary."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

from ..errors import one_line
from ..output.overlay import SHOWN_CLASSES, class_lines
from ..wording import counted

LISTED_FACES = 5
"""Faces of a picture that are described; the others are counted."""


class PredictReport:
    """Counter of rows, which also prints a line for each picture and video.

    Args:
        lines: Whether to print these lines on standard output.
    """

    def __init__(self, *, lines: bool) -> None:
        self.lines = lines
        self._begun_s = time.monotonic()
        self._pictures = 0
        self._faces: int | None = None
        self._video: str | None = None
        self._per_frame: list[int] = []
        self._classes: Counter[str] = Counter()
        self._videos: set[str] = set()

    def write(self, row: dict[str, Any]) -> bool:
        """Take the row of a picture or a frame; return False if the reader of standard output is gone."""
        if "timestamp_ns" not in row:
            going = self._end_video()
            self._pictures += 1
            if "faces" in row:
                self._faces = (self._faces or 0) + len(row["faces"])
            return self._print(f"{_name(row)}: {_found(row)}") and going
        going = self._end_video() if row["image"] != self._video else True
        self._video = row["image"]
        self._videos.add(row["image"])
        if "class" in row:
            self._classes[row["class"]] += 1
        self._per_frame.append(len(row.get("faces", ())))
        return going

    def close(self) -> None:
        """Print the line of the last video."""
        self._end_video()

    def summary(self) -> str | None:
        """Return one line about what was processed and how long it took; None if nothing was processed."""
        counts = [counted(self._pictures, "picture")] * bool(self._pictures)
        counts += [counted(len(self._videos), "video")] * bool(self._videos)
        if not counts:
            return None
        faces = "" if self._faces is None else f", {counted(self._faces, 'face')}"
        faces += " in pictures" * bool(faces and self._videos)
        return f"{' and '.join(counts)}{faces}, {time.monotonic() - self._begun_s:.1f} s"

    def _end_video(self) -> bool:
        if self._video is None:
            return True
        name, per_frame, classes = self._video, self._per_frame, self._classes
        self._video, self._per_frame, self._classes = None, [], Counter()
        found = [f"{label} in {100 * n / len(per_frame):.0f} %" for label, n in classes.most_common(SHOWN_CLASSES)]
        most = f"at most {counted(max(per_frame), 'face')} at a time"
        return self._print(f"{name}: {counted(len(per_frame), 'frame')}, {', '.join(found) or most}")

    def _print(self, line: str) -> bool:
        if not self.lines:
            return True
        try:
            sys.stdout.write(one_line(line) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            return False
        return True


def _name(row: dict[str, Any]) -> str:
    return f"{row['image']}, frame {row['frame']}" if "frame" in row else str(row["image"])


def _found(row: dict[str, Any]) -> str:
    if "classes" in row:
        return ", ".join(class_lines(row["classes"]))
    faces = row["faces"]
    words = [w for w in map(_person, faces[:LISTED_FACES]) if w]
    more = ["…"] if words and len(faces) > LISTED_FACES else []
    listed = f" ({'; '.join(words + more)})" if words else ""
    return f"{counted(len(faces), 'face')}{listed}"


def _person(face: dict[str, Any]) -> str:
    spread = "" if face["age_std"] is None else f" ± {face['age_std']:.0f}"
    age = None if face["age"] is None else f"{face['age']:.0f}{spread} years"
    gender = None if face["female"] is None else "female" if face["female"] >= 0.5 else "male"
    label = next(iter(class_lines(face["classes"])), None) if "classes" in face else None
    return ", ".join(word for word in (age, gender, label) if word)
