"""Face landmarks at the edge: public types, and functions that open models, pipelines and sources, and draw.

>>> import cv2
>>> from mien import Pipeline, draw_faces
>>> picture = cv2.imread("people.jpg")
>>> with Pipeline.load() as pipeline:
...     faces = pipeline(picture)
>>> cv2.imwrite("drawn.png", draw_faces(picture, faces))

Names are imported on first use, so that `mien doctor` starts even if numpy, OpenCV or ONNX Runtime does not.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

# On import, ONNX Runtime (1.32) stores a device id in the home folder and sends telemetry. Users who analyse faces
# should be asked first; their own setting takes precedence.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .runtime.backends.ort.onnx_runner import OnnxRunner
    from .runtime.capture.open_capture import open_capture
    from .runtime.errors import MienError
    from .runtime.models.runner import Provider
    from .runtime.models.spec import ModelSpec
    from .runtime.output.anonymize import blur_faces
    from .runtime.output.overlay import draw_faces
    from .runtime.pipeline.pipeline import Pipeline
    from .runtime.values import Face, Faces, Frame
    from .runtime.vision.head_pose import head_pose

__all__ = [
    "Face",
    "Faces",
    "Frame",
    "MienError",
    "ModelSpec",
    "OnnxRunner",
    "Pipeline",
    "Provider",
    "blur_faces",
    "draw_faces",
    "head_pose",
    "open_capture",
]
__version__ = "0.2.0"

_MODULES = {
    "Face": "values",
    "Faces": "values",
    "Frame": "values",
    "MienError": "errors",
    "ModelSpec": "models.spec",
    "OnnxRunner": "backends.ort.onnx_runner",
    "Pipeline": "pipeline.pipeline",
    "Provider": "models.runner",
    "blur_faces": "output.anonymize",
    "draw_faces": "output.overlay",
    "head_pose": "vision.head_pose",
    "open_capture": "capture.open_capture",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".runtime.{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
