"""Show landmarks in 3D on an interactive HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go  # type: ignore[import-untyped]

from ..errors import InputError
from ..outputs import write_report
from ..values import Faces, FloatArray
from .overlay import CONTOURS

BETWEEN: tuple[tuple[int, ...], ...] = (
    (0, 36, 17),  # temples to eyes and brows
    (16, 45, 26),
    (21, 27, 22),  # brows to the bridge
    (39, 27, 42),
    (30, 33),  # tip of the nose to the nostrils
    (31, 48, 4),  # nostrils to mouth and jaw
    (35, 54, 12),
    (33, 51),
    (57, 8),
)
"""Lines in addition to the contours, so a rotated face reads as a surface."""


def write_view(found: Sequence[tuple[str, Faces]], path: Path) -> int:
    """Write a self-contained page with a menu of the faces.

    Args:
        found: Name and faces of each picture.
        path: File to write.

    Returns:
        Number of faces.

    Raises:
        InputError: There is no face to show.
        OutputError: `path` cannot be written.
    """
    named = [(f"{name}, face {i + 1}", faces.landmarks[i]) for name, faces in found for i in range(len(faces))]
    if not named:
        raise InputError("no face was found, so there is nothing to show in 3D")
    figure = go.Figure()
    face_of_trace: list[int] = []
    for number, (_, points) in enumerate(named):
        for trace in _traces(points):
            figure.add_trace(trace.update(visible=number == 0))
            face_of_trace.append(number)
    buttons = [
        {"label": label, "method": "update", "args": [{"visible": [face == n for face in face_of_trace]}]}
        for n, (label, _) in enumerate(named)
    ]
    hidden = {"visible": False}
    figure.update_layout(
        scene={
            "aspectmode": "data",
            "xaxis": hidden,
            "yaxis": hidden,
            "zaxis": hidden,
            "camera": {"eye": {"x": 0.4, "y": -1.7, "z": 0.2}},
        },
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        showlegend=False,
        updatemenus=[{"buttons": buttons, "x": 0.02, "y": 0.98, "xanchor": "left"}] if len(named) > 1 else [],
    )
    write_report(path, figure.to_html(include_plotlyjs=True, full_html=True))
    return len(named)


def _traces(points: FloatArray) -> list[go.Scatter3d]:
    """Plot landmarks (68, 3); the plot's y axis points into the picture and its z axis up."""
    x, y, z = points[:, 0], points[:, 2], -points[:, 1]
    lines = [[*range(a, b + 1), *([a] if closed else [])] for a, b, closed in CONTOURS]
    order: list[int | None] = []
    for line in [*lines, *BETWEEN]:
        order += [*line, None]  # a gap
    joined = [[None if i is None else float(axis[i]) for i in order] for axis in (x, y, z)]
    return [
        go.Scatter3d(
            x=joined[0], y=joined[1], z=joined[2], mode="lines", line={"width": 4, "color": "#5a9"}, hoverinfo="skip"
        ),
        go.Scatter3d(
            x=x,
            y=y,
            z=z,
            mode="markers",
            marker={"size": 3.5, "color": points[:, 2], "colorscale": "Viridis"},
            text=[f"{i}: {p[0]:.1f}, {p[1]:.1f}, {p[2]:.1f} px" for i, p in enumerate(points)],
            hoverinfo="text",
        ),
    ]
