"""Every Python example of the README and the documentation runs as it stands."""

from __future__ import annotations

import ast
import json
import re
import shutil
from doctest import DocTestParser
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from mien.export import Report
from mien.runtime.models.shipped import shipped_model
from mien.tests.clips import demo_frames, write_clip

ROOT = Path(mien.__file__).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples_of(page: Path) -> list[tuple[str, str]]:
    """Return the Python examples of a page, each with the heading above it."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(re.findall(r"^##? (.*)$", text[: block.start()], re.MULTILINE)[-1], block.group(1)) for block in found]


EXAMPLES = {
    f"{page.name}: {heading} {number}": code
    for page in PAGES
    for number, (heading, code) in enumerate(examples_of(page))
} | {
    f"docstring of {thing.__name__}": "".join(line.source for line in DocTestParser().get_examples(str(thing.__doc__)))
    for thing in (mien, Report)
}
EMBEDDING = examples_of(ROOT / "docs" / "embedding.md")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples name."""
    frames = demo_frames(12)
    cv2.imwrite(str(tmp_path / "people.jpg"), frames[0])
    cv2.imwrite(str(tmp_path / "face.jpg"), frames[0][100:350, 200:450])
    write_clip(tmp_path / "clip.mp4", frames)
    (tmp_path / "photos").mkdir()
    shutil.copy(tmp_path / "face.jpg", tmp_path / "photos")
    monkeypatch.setattr(cv2, "imshow", lambda _, picture: print(picture.shape))  # there may be no display
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    shutil.copy(shipped_model("landmarks"), tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_as_it_stands(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "plot" in EXAMPLES[name]:
        pytest.importorskip("matplotlib").use("Agg")
    before = set(folder.iterdir())
    exec(compile(EXAMPLES[name], name, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip() or set(folder.iterdir()) - before  # it told or wrote something


def test_what_the_examples_find(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for name, code in EMBEDDING:
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
        told.setdefault(name, []).append(capsys.readouterr().out)
    assert re.search(r"^face at \[.*\nabout \d+ years, \w+\nHeadPose\(yaw=-?\d+\.", told["A picture"][0])
    (row,) = map(json.loads, told["A folder"][0].splitlines())
    assert row["file"] == "face.jpg" and np.array(row["points"]).shape == (1, 68, 3)
    assert len(told["A video or a camera"][0].splitlines()) == 12
    assert told["A video or a camera"][1] == "(480, 640, 3)\n" * 12
    assert told["A video or a camera"][2] == "different faces: 1\n"
    assert told["Coming from another library"][0].startswith("(1, 68, 3) [1.")
    assert ast.literal_eval(told["Several cameras sharing one set of models"][0]) == {"door": 12, "gate": 12}
    assert told["asyncio"] == ["[1, 1]\n"]
    assert told["A single model"][0].startswith("cpu fp32 {'landmarks': (1, 68, 3)")
    assert '"task": "landmarks"' in told["A single model"][1]
    assert cv2.imread("drawn.png").shape == cv2.imread("eyes.png").shape == (480, 640, 3)


def test_the_examples_use_every_public_name() -> None:
    used = {
        alias.name
        for _, code in EMBEDDING
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module == "mien"
        for alias in node.names
    }
    assert used | {"Face"} == set(mien.__all__)  # of Face one only has values
