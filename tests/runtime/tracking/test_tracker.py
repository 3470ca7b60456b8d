from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mien.runtime.stage_timer import StageTimer
from mien.runtime.tracking.detection_schedule import DetectionSchedule
from mien.runtime.tracking.tracker import Tracker
from mien.runtime.values import Faces, FloatArray, Frame, Image
from mien.runtime.vision.geometry import landmark_bounds
from mien.tests.fakes.moving_faces import FPS, Drawn, Film


def track(film: Film, frames: int, *, every: int = 15) -> list[Faces]:
    timer = StageTimer()
    tracker = Tracker(DetectionSchedule(film, every=every, timer=timer), film.locate, timer=timer)
    return [tracker.update(film.frame(i)) for i in range(frames)]


def who(film: Film, index: int, faces: Faces) -> dict[int, int]:
    """Track by person, of the faces that have a box where they are drawn."""
    found = {}
    for box, number in zip(faces.boxes, faces.track_id.tolist(), strict=True):
        for face in film.faces(index):
            if np.abs(box - face.box).max() < 0.2 * face.width:
                found.setdefault(face.person, number)
    return found


def ids(results: Sequence[Faces]) -> set[int]:
    return {number for faces in results for number in faces.track_id.tolist()}


def test_detector_rests_while_a_face_is_followed() -> None:
    film = Film(lambda i: [Drawn(1, 60 + 2 * i, 100)])
    results = track(film, 61)
    assert all(who(film, i, faces) == {1: 0} for i, faces in enumerate(results))
    assert len(film.searched) <= 13  # at full size every 15 frames, and twice at half
    assert all(np.isfinite(faces.landmarks).all() for faces in results)


def test_a_new_face_is_found_within_the_interval() -> None:
    film = Film(lambda i: [Drawn(1, 60, 100)] + [Drawn(2, 200, 120)] * (i >= 12))
    results = track(film, 45)
    assert [len(f) for f in results[:12]] == [1] * 12 and all(who(film, 30, f) == {1: 0, 2: 1} for f in results[30:])


def test_a_face_that_walks_fast_is_one_face_though_its_landmarks_lag_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    film = Film(lambda i: [Drawn(1, 30 + 10 * i, 100)])  # a quarter of its width per frame
    exact = film.locate

    def lagging(image: Image, bounds: FloatArray, roll: FloatArray) -> tuple[FloatArray, FloatArray]:
        landmarks, presence = exact(image, bounds, roll)
        late = 0.4 * (bounds - landmark_bounds(landmarks))[:, None, :2]
        return landmarks + np.concatenate([late, 0 * late[..., :1]], axis=2), presence

    monkeypatch.setattr(film, "locate", lagging)
    results = track(film, 26)
    assert all(faces.track_id.tolist() == [0] for faces in results)
    assert all(who(film, i, faces) == {1: 0} for i, faces in enumerate(results[4:], 4))


def test_nobody_in_sight_is_looked_for_again_soon_and_not_in_every_frame() -> None:
    film = Film(lambda i: [Drawn(1, 100, 100)] * (i >= 31))
    results = track(film, 40)
    assert [len(f) for f in results].index(1) <= 34
    assert 8 <= len(film.searched) <= 14


@pytest.mark.parametrize("speed", [2.0, 4.0])
def test_crossing_faces_keep_their_ids(speed: float) -> None:
    meet = 30
    film = Film(lambda i: [Drawn(1, 160 + speed * (i - meet), 100), Drawn(2, 160 - speed * (i - meet), 108)])
    results = track(film, 61)
    apart = [i for i in range(61) if 2 * speed * abs(i - meet) >= 70]
    kept = [who(film, i, results[i]) == who(film, 0, results[0]) for i in apart]
    assert len(who(film, 0, results[0])) == 2 and np.mean(kept) >= 0.9 and kept[-1]
    assert ids(results) == {0, 1}


def test_a_covered_face_gets_its_own_id_back() -> None:
    film = Film(lambda i: [Drawn(1, 40 + 3 * i, 110), Drawn(2, 160, 110)])
    results = track(film, 80)
    assert who(film, 79, results[79]) == who(film, 0, results[0]) and ids(results) == {0, 1}


@pytest.mark.parametrize(("hidden_s", "same"), [(1.5, True), (3.0, False)])
def test_a_lost_face_keeps_its_id_for_two_seconds(hidden_s: float, same: bool) -> None:
    back = 20 + round(hidden_s * FPS)
    film = Film(lambda i: [Drawn(3, 250, 60)] + [Drawn(1, 100, 100)] * (i < 20 or i >= back))
    results = track(film, back + 30)
    assert (who(film, 0, results[0])[1] == who(film, back, results[-1])[1]) is same


def test_another_face_at_the_same_place_has_another_id_at_once() -> None:
    film = Film(lambda i: [Drawn(1 if i < 30 else 2, 100, 100)])
    results = track(film, 60)
    assert all(who(film, i, f) == {1: 0} for i, f in enumerate(results[:30]))
    assert all(f.track_id.tolist() == [1] for f in results[30:])


def test_a_cut_starts_afresh() -> None:
    """After a cut away and back nobody has the old id, though the face is where it was."""
    film = Film(
        lambda i: [Drawn(1, 100, 100)] if not 30 <= i < 45 else [Drawn(2, 200, 120)],
        background=lambda i: int(30 <= i < 45),
    )
    results = track(film, 60)
    assert [results[i].track_id.tolist() for i in (29, 30, 44, 45, 59)] == [[0], [1], [1], [2], [2]]


class Blinking(Film):
    """A film in which some frames are of one shade of grey, which is also what the detector takes for their number."""

    empty: range = range(0)
    grey = 0

    def frame(self, index: int) -> Frame:
        frame = super().frame(index)
        if index in self.empty:
            frame.pixels[:] = self.grey
        return frame


@pytest.mark.parametrize("grey", [60, 128, 255])
@pytest.mark.parametrize("cut", [False, True])
def test_an_empty_frame_is_no_scene_of_its_own(grey: int, cut: bool) -> None:
    """Ids survive a dropout, but not a cut hidden by it."""
    film = Blinking(
        lambda i: [Drawn(2 if cut and i > 30 else 1, 100, 100)] * (i < 60 and i != 30),
        background=lambda i: int(cut and i > 30),
    )
    film.empty, film.grey = range(30, 31), grey
    results = track(film, 50)
    assert [results[i].track_id.tolist() for i in (29, 30, 49)] == [[0], [], [int(cut)]]


def test_a_shaken_camera_changes_no_id() -> None:
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.normal(0, 3, (80, 2)), axis=0) * 0.5
    film = Film(
        lambda _: [Drawn(1, 80, 100), Drawn(2, 200, 120, 14)], shake=lambda i: (float(steps[i, 0]), float(steps[i, 1]))
    )
    results = track(film, 80)
    assert all(who(film, i, f) == {1: 0, 2: 1} for i, f in enumerate(results))


def test_small_faces_are_followed_by_their_boxes() -> None:
    film = Film(lambda i: [Drawn(1, 60 + 1.5 * i, 100, 14), Drawn(2, 250, 120, 12, score=0.45)])
    results = track(film, 60)
    assert all(who(film, i, f) == {1: 0, 2: 1} for i, f in enumerate(results) if i)
    assert all(np.isnan(f.landmarks).all() and (f.scores > 0.4).all() for f in results)


def test_a_face_that_turns_away_keeps_box_and_id() -> None:
    film = Film(lambda i: [Drawn(1, 100 + i, 100)], presence=0.1)
    results = track(film, 40)
    assert all(who(film, i, f) == {1: 0} for i, f in enumerate(results))
    assert all(np.isnan(f.landmarks).all() and f.presence[0] == 0.1 for f in results)


def test_low_scores_keep_a_face_and_do_not_begin_one() -> None:
    scores = {1: lambda i: 0.9 if i < 5 else 0.32, 2: lambda _: 0.32}
    film = Film(lambda i: [Drawn(p, 80.0 * p, 100, 15, score=scores[p](i)) for p in (1, 2)])
    assert all(who(film, i, f) == {1: 0} for i, f in enumerate(track(film, 90)))


def test_a_face_that_the_detector_no_longer_sees_is_lost() -> None:
    film = Film(lambda i: [Drawn(1, 100, 100, 15, score=0.9 if i < 10 else 0.1)])
    assert len(track(film, 60)[-1]) == 0


def test_the_same_film_has_the_same_rows_however_slow_the_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    def scene(i: int) -> list[Drawn]:
        return [Drawn(1, 40 + 3 * i, 110), Drawn(2, 160, 110), *([Drawn(3, 260, 60, 15)] * (i > 20))]

    class Slow(Film):
        def __call__(self, image: Image, **options: Any) -> tuple[FloatArray, FloatArray]:
            sum(range(300_000))
            return super().__call__(image, **options)

    fast, slow = track(Film(scene), 60), track(Slow(scene), 60)
    for a, b in zip(fast, slow, strict=True):
        assert a.track_id.tolist() == b.track_id.tolist() and np.array_equal(a.boxes, b.boxes)


def test_a_crowd_is_followed() -> None:
    rng = np.random.default_rng(1)
    speeds = rng.uniform(-0.6, 0.6, (20, 2))
    film = Film(
        lambda i: [
            Drawn(p, 30 + 65 * (p % 5) + speeds[p, 0] * i, 30 + 58 * (p // 5) + speeds[p, 1] * i, 16) for p in range(20)
        ]
    )
    results = track(film, 40)
    assert np.mean([len(who(film, i, f)) for i, f in enumerate(results)]) > 19 and len(ids(results)) == 20
