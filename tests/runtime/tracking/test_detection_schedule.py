from __future__ import annotations

import threading

import numpy as np
import pytest

from mien.runtime.stage_timer import StageTimer
from mien.runtime.tracking.detection_schedule import DetectionSchedule, Need
from mien.runtime.values import FloatArray, Image

PICTURE = np.full((240, 320, 3), 7, np.uint8)


class Detector:
    """Finds one box over the whole picture; notes what it was given, and by which thread."""

    max_side = 320
    min_score = usual_score = 0.5

    def __init__(self, *, waits_for: threading.Event | None = None) -> None:
        self.waits_for = waits_for
        self.sizes: list[tuple[int, int]] = []
        self.small_only: list[bool] = []
        self.threads: list[str] = []

    def __call__(
        self, image: Image, *, min_score: float | None = None, small_only: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        if self.waits_for is not None:
            assert self.waits_for.wait(10)
        if not (image == 7).all():
            raise ValueError("the picture has changed")
        self.sizes.append((image.shape[1], image.shape[0]))
        self.small_only.append(small_only)
        self.threads.append(threading.current_thread().name)
        return np.array([[0.0, 0, image.shape[1], image.shape[0]]] * 3), np.array([0.9, 0.42, 0.35])

    def close(self) -> None: ...


def steps(schedule: DetectionSchedule, need: Need, frames: int) -> list[int]:
    """Numbers of the frames in which a result came."""
    came = []
    for i in range(frames):
        results = [schedule.next_frame(), schedule.search(PICTURE.copy(), need, {})]
        came += [i for r in results if r is not None]
    return came


def test_routine_searches_at_full_size_and_twice_at_half_and_is_joined_after_a_fixed_number_of_frames() -> None:
    detector = Detector()
    schedule = DetectionSchedule(detector, every=16, timer=StageTimer())
    assert steps(schedule, Need.ROUTINE, 40) == [10, 13, 16, 26, 29, 32]
    assert detector.sizes[:4] == [(320, 240), (160, 120), (160, 120), (320, 240)]
    assert detector.small_only[:4] == [True, False, True, True]
    assert all(name.startswith("detect") for name in detector.threads)


def test_boxes_are_those_of_the_frame_and_scores_are_graded() -> None:
    schedule = DetectionSchedule(Detector(), every=16, timer=StageTimer())
    results = []
    for _ in range(20):
        results.append(schedule.next_frame())
        schedule.search(PICTURE, Need.ROUTINE, {"a": np.zeros(4)})
    large, half, _ = (r for r in results if r is not None)
    for found, width in ((large, 320), (half, 160)):
        assert np.allclose(found.boxes, [0, 0, 320, 240]) and found.factor == width / 320
        assert found.picture.shape[1] == width
        assert found.likely.tolist() == [True, True, False] and "a" in found.boxes_then
    assert not large.full and not half.full  # each misses faces that the other sees


def test_a_search_for_nobody_in_sight_is_for_faces_of_all_sizes() -> None:
    detector = Detector()
    schedule = DetectionSchedule(detector, every=16, timer=StageTimer())
    schedule.next_frame()
    found = schedule.search(PICTURE, Need.NOW, {})
    assert found is not None and found.full and detector.small_only == [False]


def test_a_slow_detector_is_waited_for() -> None:
    let_go = threading.Event()
    schedule = DetectionSchedule(Detector(waits_for=let_go), every=16, timer=StageTimer())
    assert steps(schedule, Need.ROUTINE, 10) == []  # nothing waits before the result is due
    threading.Timer(0.05, let_go.set).start()
    assert schedule.next_frame() is not None


def test_nobody_in_sight_is_searched_for_at_once_and_then_in_every_third_frame() -> None:
    detector = Detector()
    schedule = DetectionSchedule(detector, every=15, timer=StageTimer())
    assert steps(schedule, Need.NOW, 10) == [0, 3, 6, 9]
    assert steps(schedule, Need.ROUTINE, 1) == [] and steps(schedule, Need.NOW, 1) == [0]  # at once again


def test_a_first_result_that_is_not_sure_is_looked_at_again_in_the_next_three_frames() -> None:
    schedule = DetectionSchedule(Detector(), every=16, timer=StageTimer())
    assert steps(schedule, Need.NOW, 1) == [0]
    assert steps(schedule, Need.SOON, 12) == [0, 1, 2, 6, 9]


def test_a_first_result_that_is_sure_is_not_looked_at_again() -> None:
    schedule = DetectionSchedule(Detector(), every=16, timer=StageTimer())
    assert steps(schedule, Need.NOW, 1) == [0]
    assert steps(schedule, Need.ROUTINE, 1) == [] and steps(schedule, Need.SOON, 9) == []


def test_a_hidden_face_that_is_expected_back_is_looked_for_in_every_frame() -> None:
    schedule = DetectionSchedule(Detector(), every=16, timer=StageTimer())
    assert steps(schedule, Need.NEXT, 5) == [1, 2, 3, 4]


@pytest.mark.parametrize("every", [1, 3])
def test_short_intervals_have_their_results_at_once(every: int) -> None:
    detector = Detector()
    schedule = DetectionSchedule(detector, every=every, timer=StageTimer())
    assert steps(schedule, Need.ROUTINE, 7) == list(range(0, 7, every))


def test_a_caller_may_draw_on_the_frame_meanwhile() -> None:
    let_go = threading.Event()
    schedule = DetectionSchedule(Detector(waits_for=let_go), every=5, timer=StageTimer())
    picture = PICTURE.copy()
    schedule.next_frame()
    schedule.search(picture, Need.ROUTINE, {})
    picture[:] = 0
    let_go.set()
    assert [schedule.next_frame() is None for _ in range(3)] == [True, True, False]


def test_an_error_of_the_detector_is_raised_when_its_result_is_due() -> None:
    schedule = DetectionSchedule(Detector(), every=5, timer=StageTimer())
    schedule.next_frame()
    schedule.search(np.zeros((240, 320, 3), np.uint8), Need.ROUTINE, {})
    schedule.next_frame()
    schedule.next_frame()
    with pytest.raises(ValueError, match="has changed"):
        schedule.next_frame()
