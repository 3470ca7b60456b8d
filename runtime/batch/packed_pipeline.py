"""Pack the models of a pipeline as bytes, so that processes on other machines can open it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..faces.pipeline import Pipeline
from ..models.bundle import read_bundle
from ..models.model_file import ModelFile
from ..models.runner import Provider
from ..models.shipped import shipped_model
from ..models.spec import Precision


@dataclass(frozen=True, slots=True)
class PackedPipeline:
    """Everything that determines the row of a picture.

    Attributes:
        models: Contents of the model files ``landmarks``, ``detector`` and optionally ``age_gender``.
        provider: Runs the models.
        max_side: Longer side, in px, to which pictures are reduced before detection.
    """

    models: Mapping[str, bytes]
    provider: Provider
    max_side: int


def pack_pipeline(
    *,
    model: Path | None = None,
    detector: Path | None = None,
    age_gender: Path | None = None,
    bundle: Path | None = None,
    precision: Precision = Precision.FP32,
    attributes: bool = True,
    provider: Provider = Provider.AUTO,
    max_side: int,
) -> PackedPipeline:
    """Read the models that `Pipeline.load` opens for the same arguments, after checking that they open on the CPU.

    Args:
        model: Landmark model, in place of the shipped one.
        detector: Detector, in place of the shipped one.
        age_gender: Age and gender model, in place of the shipped one.
        bundle: Bundle from which all models are taken.
        precision: Which models of the bundle to take.
        attributes: Include the age and gender model even if `age_gender` is not given.
        provider: Runs the models later; `Provider.AUTO` means the CPU.
        max_side: Longer side, in px, to which pictures are reduced before detection.

    Raises:
        InputError: As for `Pipeline.load`.
        ModelError: As for `Pipeline.load`.
    """
    Pipeline.load(
        model=model,
        detector=detector,
        age_gender=age_gender,
        bundle=bundle,
        precision=precision,
        provider=Provider.CPU,
        threads=1,
        max_side=max_side,
    ).close()
    if bundle is not None:
        models = {name: file.read_bytes() for name, file in read_bundle(bundle).models_in(precision).items()}
    else:
        given = {"landmarks": model, "detector": detector, "age_gender": age_gender}
        models = {name: (path or shipped_model(name)).read_bytes() for name, path in given.items()}
    if not attributes and age_gender is None:
        models.pop("age_gender", None)
    return PackedPipeline(models, Provider.CPU if provider is Provider.AUTO else provider, max_side)


def open_packed_pipeline(packed: PackedPipeline) -> Pipeline:
    """Open the packed models, each on one thread.

    Raises:
        ProviderError: The provider is not available on this machine.
    """
    models = {name: ModelFile(f"{name}.onnx", content) for name, content in packed.models.items()}
    return Pipeline.load(
        model=models["landmarks"],
        detector=models["detector"],
        age_gender=models.get("age_gender"),
        attributes="age_gender" in models,
        provider=packed.provider,
        threads=1,
        max_side=packed.max_side,
    )
