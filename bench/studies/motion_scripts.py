"""What happens in the made clips: who moves where, in scenes drawn by `motion_clips`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .motion_clips import SIZE, Actor, Path2D, Scene

WIDTH, HEIGHT = SIZE


def swing(centre: Sequence[float], reach: Sequence[float], width: float, period_s: float, phase: float) -> Path2D:
    """Return a path to and fro through a centre; ``reach`` is the amplitude in x and y, px."""

    def at(time_s: float) -> tuple[float, float, float]:
        turn = 2 * np.pi * time_s / period_s + phase
        return centre[0] + reach[0] * np.cos(turn), centre[1] + reach[1] * np.sin(0.8 * turn), width

    return at


def walk(start: float, end: float, y: float, width: float, begin_s: float, end_s: float) -> Path2D:
    """Return a path along x with the bobbing of a gait, at rest before and after."""

    def at(time_s: float) -> tuple[float, float, float]:
        done = float(np.clip((time_s - begin_s) / (end_s - begin_s), 0, 1))
        bob = 0.04 * width * np.sin(11 * time_s) * (0 < done < 1)
        return start + (end - start) * done, y + bob, width

    return at


def crossing(rng: np.random.Generator) -> list[Scene]:
    """Two persons cross twice, one before the other."""
    width, y, period = rng.uniform(45, 75), rng.uniform(120, 150), rng.uniform(5, 7)
    return [
        Scene(
            6,
            [
                Actor(0, swing((240, y), (170, 6), width, period, 0)),
                Actor(1, swing((240, y + rng.uniform(-12, 12)), (150, 6), 0.9 * width, period, np.pi)),
            ],
        )
    ]


def occlusion(rng: np.random.Generator) -> list[Scene]:
    """Two persons walk behind a pillar, one rests there for a second; a third one stands beside it."""
    width = rng.uniform(40, 60)
    left, right = 200.0, 200 + rng.uniform(70, 100)
    middle, far = (left + right) / 2, rng.uniform(370, 430)

    def rests(time_s: float) -> tuple[float, float, float]:
        first = walk(80, middle, 145, width, 0.5, 2.0)
        return first(time_s) if time_s < 3 else walk(middle, far, 145, width, 3.0, 4.5)(time_s)

    scene = [Actor(0, rests), Actor(1, walk(440, 60, 55, width, 1, 4.5))]
    return [Scene(6, [*scene, Actor(2, swing((120, 225), (6, 3), 0.9 * width, 3, 0))], pillar=(left, right))]


def entering(rng: np.random.Generator) -> list[Scene]:
    """Six persons walk in on either side and out again, each at a time of its own."""
    actors = []
    for person in range(6):
        out, begin, y, width = 70.0, rng.uniform(0, 3.5), 60 + 30.0 * person, rng.uniform(35, 55)
        ends = (-out, WIDTH + out) if rng.random() < 0.5 else (WIDTH + out, -out)
        actors.append(Actor(person, walk(*ends, y, width, begin, begin + rng.uniform(2.5, 4))))
    return [Scene(6, actors)]


def zoom(rng: np.random.Generator) -> list[Scene]:
    """The camera zooms in on two persons, and out again."""
    period = rng.uniform(4, 6)

    def camera(time_s: float) -> tuple[float, float, float]:
        return 0.0, 0.0, float(0.45 * (2.6 / 0.45) ** ((1 - np.cos(2 * np.pi * time_s / period)) / 2))

    faces = [(200.0, 130.0), (285.0, 140.0)]
    return [
        Scene(
            6, [Actor(i, swing(f, (5, 3), rng.uniform(36, 44), 3, 2.0 * i)) for i, f in enumerate(faces)], camera=camera
        )
    ]


def shake(rng: np.random.Generator) -> list[Scene]:
    """A hand-held camera films three persons."""
    speeds, phases = rng.uniform(3, 30, (6, 2)), rng.uniform(0, 6.3, (6, 2))

    def camera(time_s: float) -> tuple[float, float, float]:
        dx, dy = (30 / (3 + speeds) * np.sin(speeds * time_s + phases)).sum(axis=0).tolist()
        return dx, dy, 1.0

    faces = [(110.0, 130.0, 60.0), (240.0, 150.0, 40.0), (370.0, 120.0, 70.0)]
    return [Scene(6, [Actor(i, swing(f, (12, 6), f[2], 4, 2.0 * i)) for i, f in enumerate(faces)], camera=camera)]


def cuts(rng: np.random.Generator) -> list[Scene]:
    """Four scenes of other persons each, at nearly the same places."""
    return [
        Scene(
            1.5,
            [
                Actor(2 * part + i, swing((x + rng.uniform(-9, 9), 135), (6, 4), rng.uniform(55, 65), 3, 2.0 * i))
                for i, x in enumerate((150, 330))
            ],
        )
        for part in range(4)
    ]


def crowd(rng: np.random.Generator) -> list[Scene]:
    """Twenty persons wander about, and cover each other at times."""
    places = [(40 + 66.0 * column, 45 + 88.0 * row) for row in range(3) for column in range(7)][:20]
    return [
        Scene(
            6,
            [
                Actor(
                    i,
                    swing(
                        p, rng.uniform(15, 40, 2).tolist(), rng.uniform(26, 36), rng.uniform(4, 8), rng.uniform(0, 6.3)
                    ),
                )
                for i, p in enumerate(places)
            ],
        )
    ]


def sizes(rng: np.random.Generator) -> list[Scene]:
    """Faces of 12 to 40 px, and one that comes near from 12 to 200 px."""

    def near(time_s: float) -> tuple[float, float, float]:
        return 335.0, 135.0, float(12 * (200 / 12) ** (time_s / 6))

    small = [
        Actor(1 + i, swing((30 + 45.0 * i, 60 + 45.0 * i), (8, 8), width, rng.uniform(3, 5), rng.uniform(0, 6.3)))
        for i, width in enumerate((12.0, 16.0, 24.0, 40.0))
    ]
    return [Scene(6, [*small, Actor(0, near)])]


CLIPS: dict[str, Callable[[np.random.Generator], list[Scene]]] = {
    "crossing": crossing,
    "occlusion": occlusion,
    "entering": entering,
    "zoom": zoom,
    "shake": shake,
    "cuts": cuts,
    "crowd": crowd,
    "sizes": sizes,
}


def people_in(scenes: Sequence[Scene]) -> int:
    """Return the number of persons of a clip."""
    return 1 + max(a.person for scene in scenes for a in scene.actors)
