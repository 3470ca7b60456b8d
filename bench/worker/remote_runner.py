"""`RemoteRunner`: runs the model of a `CandidateProcess`."""

from __future__ import annotations

from ...runtime.values import FloatArray, Image
from .process import CandidateProcess


class RemoteRunner:
    """`Runner` for a `CandidateProcess`, so that parity and accuracy come from the very process that is timed."""

    def __init__(self, process: CandidateProcess) -> None:
        if process.spec is None or process.precision is None:
            raise ValueError("expected a mien model, found one without a spec")
        self._process = process
        self.spec = process.spec
        self.provider = process.provider
        self.precision = process.precision

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch (b, h, w, 3) uint8 BGR; see `Runner`."""
        return self._process.outputs(batch)

    def close(self) -> None:
        """Do nothing; the owner of the process closes it."""

    def __enter__(self) -> RemoteRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
