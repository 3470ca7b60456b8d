"""Packs the models of a pipeline as bytes, so that processes on other machines can open it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..faces.face_filter import FaceFilter
from ..models.model_file import ModelFile, ModelSource
from ..models.runner import Provider
from ..models.spec import Precision
from ..pipeline.model_choice import choose_models
from ..pipeline.pipeline import Pipeline
from ..pipeline.pipeline_options import PipelineOptions


@dataclass(frozen=True, slots=True)
class PackedPipeline:
    """Everything that determines the row of a picture.

    Attributes:
        models: Contents of the model files ``landmarks``, ``detector`` and optionally ``age_gender`` and
            ``classifier``.
        provider: Runs the models.
        max_side: Longer side, in px, to which pictures are reduced before detection.
        reported: Which of the found faces are reported.
    """

    models: Mapping[str, bytes]
    provider: Provider
    max_side: int
    reported: FaceFilter


def pack_pipeline(options: PipelineOptions, *, max_side: int) -> PackedPipeline:
    """Read the models that `PipelineOptions.load` would open, after checking that they open on the CPU.

    Args:
        options: Which models to read; `Provider.AUTO` means the CPU.
        max_side: Longer side, in px, to which pictures are reduced before detection.

    Raises:
        InputError: As for `Pipeline.load`.
        ModelError: As for `Pipeline.load`; or a model's weights are in other files.
    """
    provider = Provider.CPU if options.provider is Provider.AUTO else options.provider
    given = {"landmarks": options.model, "detector": options.detector, "age_gender": options.age_gender}
    models: dict[str, ModelSource] = {
        **choose_models(given, bundle=options.bundle, precision=options.precision, provider=provider)
    }
    if not options.with_attributes:
        models.pop("age_gender", None)
    if options.classifier is not None:
        models["classifier"] = options.classifier
    _open(models, options.reported, provider=Provider.CPU, precision=options.precision, max_side=max_side).close()
    content = {name: ModelFile.of(file).read_bytes() for name, file in models.items()}
    return PackedPipeline(content, provider, max_side, options.reported)


def open_packed_pipeline(packed: PackedPipeline) -> Pipeline:
    """Open the packed models, each on one thread.

    Raises:
        ProviderError: The provider is not available on this machine.
    """
    models = {name: ModelFile(f"{name}.onnx", content) for name, content in packed.models.items()}
    return _open(models, packed.reported, provider=packed.provider, precision=None, max_side=packed.max_side)


def _open(
    models: Mapping[str, ModelSource],
    reported: FaceFilter,
    *,
    provider: Provider,
    precision: Precision | None,
    max_side: int,
) -> Pipeline:
    return Pipeline.load(
        model=models["landmarks"],
        detector=models["detector"],
        age_gender=models.get("age_gender"),
        classifier=models.get("classifier"),
        attributes="age_gender" in models,
        provider=provider,
        precision=precision,
        threads=1,
        max_side=max_side,
        **asdict(reported),
    )
