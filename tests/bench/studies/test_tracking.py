"""Made clips and the figures of tracking: the truth is what is drawn, and each figure tells its fault."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.bench.studies.motion_clips import FPS, SIZE, Actor, Head, Scene, Truth, frontal_faces, pick_heads, render
from mien.bench.studies.motion_scripts import CLIPS, people_in
from mien.bench.studies.tracking import Run, Tracked, compare, figures_of
from mien.runtime.errors import InputError
from mien.runtime.values import FloatArray
from mien.runtime.vision.geometry import box_from_bounds, landmark_bounds

BLUE, RED = (255, 0, 0), (0, 0, 255)


def head(colour: tuple[int, int, int]) -> Head:
    """A disc whose landmarks are spread over its middle."""
    whole = np.zeros((120, 100, 4), np.uint8)
    cv2.ellipse(whole, (50, 60), (48, 58), 0, 0, 360, (*colour, 255), -1)
    points = np.random.default_rng(0).uniform([20, 40], [80, 100], (68, 2))
    points[[0, 1, 36, 45]] = [[20, 40], [80, 100], [30, 50], [70, 50]]
    half = np.asarray(cv2.resize(whole, (50, 60), interpolation=cv2.INTER_AREA), np.uint8)
    return Head((whole, half), points)


def at(x: float, y: float, width: float = 40) -> Actor:
    return Actor(0, lambda _: (x, y, width))


def test_a_face_is_drawn_where_the_truth_says() -> None:
    for width in (12.0, 40.0, 90.0):
        (frame, truth), *_ = render([Scene(0.04, [at(150, 120, width)])], [head(BLUE)], seed=0)
        x0, y0, x1, y1 = truth.boxes[0].tolist()
        assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((150, 120), abs=1)
        assert x1 - x0 == pytest.approx(width, abs=1)
        assert truth.visible[0] == pytest.approx(1, abs=0.1)
        assert frame.pixels[120, 150].tolist() == pytest.approx(BLUE, abs=3)
        _, columns = np.nonzero((frame.pixels == BLUE).all(axis=2))
        assert columns.mean() == pytest.approx(150, abs=0.03 * width + 0.5)
        assert np.ptp(columns) == pytest.approx(96 / 60 * width, rel=0.1)


def test_the_one_in_front_the_pillar_and_the_border_hide_a_face() -> None:
    heads = [head(BLUE), head(RED)]
    front, behind = at(100, 130), Actor(1, lambda _: (104, 130, 40))
    edge, covered = Actor(1, lambda _: (0, 60, 40)), Actor(1, lambda _: (300, 130, 40))
    scene = Scene(0.04, [front, behind, edge, covered], pillar=(250, 350))
    (frame, truth), *_ = render([scene], heads, seed=0)
    assert truth.visible.tolist() == pytest.approx([1, 0.1, 0.5, 0], abs=0.1)
    assert frame.pixels[130, 100].tolist() == pytest.approx(BLUE, abs=3)
    assert truth.persons.tolist() == [0, 1, 1, 1]


def test_the_camera_moves_picture_and_truth() -> None:
    scene = Scene(0.08, [at(150, 120)], camera=lambda t: (100 * t, -50 * t, 1 + 10 * t))
    (_, before), (frame, after) = render([scene], [head(BLUE)], seed=0)
    x, y = (after.boxes[0, :2] + after.boxes[0, 2:]) / 2
    assert (x, y) == pytest.approx((240 + 1.4 * (154 - 240), 135 + 1.4 * (118 - 135)), abs=1)
    assert np.ptp(after.boxes[0, ::2]) == pytest.approx(1.4 * np.ptp(before.boxes[0, ::2]), rel=0.01)
    assert frame.pixels[round(y), round(x)].tolist() == pytest.approx(BLUE, abs=3)


@pytest.mark.parametrize("kind", CLIPS)
def test_a_clip_is_the_same_every_time(kind: str) -> None:
    def make(seed: int) -> tuple[list[Scene], int, FloatArray]:
        rng = np.random.default_rng(seed)
        scenes = CLIPS[kind](rng)
        first, truth = next(render(scenes, [head(BLUE)] * people_in(scenes), seed=seed))
        return scenes, len(truth.persons), np.append(first.pixels.ravel(), truth.boxes.ravel())

    (scenes, people, one), (_, _, again), (_, _, other) = make(1), make(1), make(2)
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert 0 < people <= people_in(scenes)
    assert 5 <= sum(s.seconds for s in scenes) <= 6


def test_heads_are_cut_from_photographs(landmark_folder: Path) -> None:
    table = frontal_faces(landmark_folder)
    two = pick_heads(table, np.random.default_rng(0), 2)
    again = pick_heads(table, np.random.default_rng(0), 2)
    assert all(np.array_equal(a.pictures[0], b.pictures[0]) for a, b in zip(two, again, strict=True))
    for cut in two:
        x0, y0, x1, y1 = box_from_bounds(landmark_bounds(cut.points)).tolist()
        opacity = cut.pictures[0][..., 3]
        assert opacity[int((y0 + y1) / 2), int((x0 + x1) / 2)] == 255 and opacity[0, 0] == 0
        assert 0 < x0 < x1 < opacity.shape[1] and 0 < y0 < y1 < opacity.shape[0]
    with pytest.raises(InputError, match="expected 99 frontal persons"):
        pick_heads(table, np.random.default_rng(0), 99)


def truth_of(count: int, step: float) -> list[Truth]:
    """Two faces that move by `step` px a frame; a third one is hidden."""
    frames = []
    for i in range(count):
        corners = np.array([[20.0, 20.0], [120, 20], [220, 20]]) + [step * i, 0]
        points = np.random.default_rng(0).uniform(0, 40, (68, 2)) + corners[:, None]
        points[:, 36], points[:, 45] = corners, corners + [40, 0]
        frames.append(Truth(np.arange(3), box_from_bounds(landmark_bounds(points)), points, np.array([1, 1, 0.2])))
    return frames


def figures(frames: list[Tracked], truth: list[Truth]) -> dict[str, float]:
    return figures_of([compare(Run(frames, taken_ms=[1.0] * len(frames), detector_runs=5), truth)])


def as_seen(truth: list[Truth]) -> list[Tracked]:
    return [Tracked(np.array([7, 8, 9]), t.boxes, t.points) for t in truth]


def test_a_perfect_tracker_has_perfect_figures() -> None:
    truth = truth_of(20, 2)
    row = figures(as_seen(truth), truth)
    assert (row["mota"], row["idf1"], row["switches"], row["fragments"]) == (100, 100, 0, 0)
    assert (row["jitter"], row["lag_ms"], row["runs_per_100"], row["p50_ms"]) == (0, 0, 25, 1)


def test_each_fault_shows_in_its_figure() -> None:
    truth = truth_of(20, 2)
    swapped = [Tracked(np.array([7, 8, 9] if i < 10 else [8, 7, 9]), t.boxes, t.points) for i, t in enumerate(truth)]
    row = figures(swapped, truth)
    assert row["switches"] == 2 and row["idf1"] == 50
    gap = [Tracked(f.ids[1:], f.boxes[1:], f.points[1:]) if 8 <= i < 12 else f for i, f in enumerate(as_seen(truth))]
    row = figures(gap, truth)
    assert row["fragments"] == 1 and row["switches"] == 0 and row["mota"] == pytest.approx(90)
    ghost = [Tracked(np.array([1]), np.array([[400.0, 100, 440, 150]]), np.full((1, 68, 2), np.nan)) for _ in truth]
    row = figures(ghost, truth)
    assert row["mota"] == pytest.approx(-50) and row["jitter"] is None and row["lag_ms"] is None


def test_jitter_and_lag_are_those_of_the_landmarks() -> None:
    truth = truth_of(20, 2)
    late = [Tracked(np.array([7, 8, 9]), t.boxes, t.points - [2, 0]) for t in truth]  # one frame behind
    row = figures(late, truth)
    assert row["lag_ms"] == pytest.approx(1000 / FPS) and row["jitter"] == 0
    shaken = [Tracked(np.array([7, 8, 9]), t.boxes, t.points + [0, (-1) ** i]) for i, t in enumerate(truth)]
    assert figures(shaken, truth)["jitter"] == pytest.approx(100 * 2 / 40)


def test_clips_are_of_one_size() -> None:
    (frame, _), *_ = render([Scene(0.04, [])], [], seed=0)
    assert frame.pixels.shape == (SIZE[1], SIZE[0], 3)
