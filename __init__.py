"""Face landmarks at the edge: what flows, what opens a model, a pipeline and a source, and what draws.

>>> from mien import Pipeline, draw_faces
>>> with Pipeline.load() as pipeline:
...     faces = pipeline(picture)
"""

import os

# From its import on ONNX Runtime (1.32) keeps a device number in the home folder and reports its use to its maker. Who
# looks at faces wants to be asked first: the user's own setting stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from .runtime.backends.ort.onnx_runner import OnnxRunner
from .runtime.capture.capture import open_capture
from .runtime.errors import MienError
from .runtime.faces.pipeline import Pipeline
from .runtime.models.runner import Provider
from .runtime.models.spec import ModelSpec
from .runtime.output.overlay import draw_faces
from .runtime.values import Faces, Frame

__all__ = [
    "Faces",
    "Frame",
    "MienError",
    "ModelSpec",
    "OnnxRunner",
    "Pipeline",
    "Provider",
    "draw_faces",
    "open_capture",
]
__version__ = "0.1.0"
