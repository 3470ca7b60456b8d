"""Chooses the file of each model of a pipeline: a given one, that of a bundle, or the shipped one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..backends.fastest_precision import fastest_precision
from ..errors import InputError
from ..models.bundle import read_bundle
from ..models.model_file import ModelFile, ModelSource
from ..models.runner import Provider
from ..models.shipped import shipped_model
from ..models.spec import Precision


def choose_models(
    given: Mapping[str, ModelSource | None],
    *,
    bundle: str | os.PathLike[str] | None,
    precision: Precision | None,
    provider: Provider,
) -> dict[str, Path | ModelFile]:
    """Choose the models of a pipeline.

    Args:
        given: Files of the user for ``landmarks``, ``detector`` and ``age_gender``; None for a shipped one.
        bundle: Bundle to take all models from.
        precision: Precision of the shipped models or of the bundle's; None for the fastest shipped ones, and for
            float32 in a bundle.
        provider: Execution provider that will run the models.

    Returns:
        The models by name; a bundle may have none for ``age_gender``.

    Raises:
        InputError: A bundle was given together with other models, or holds no model of that precision; or a shipped
            model of a precision that is not shipped is needed.
        ModelError: The bundle is damaged.
    """
    if bundle is not None:
        if any(source is not None for source in given.values()):
            raise InputError("a bundle contains its own models; pass either the bundle or model files")
        return {**read_bundle(Path(bundle)).models_in(precision or Precision.FP32)}
    return {name: _source(source, name, precision, provider) for name, source in given.items()}


def _source(given: ModelSource | None, name: str, precision: Precision | None, provider: Provider) -> Path | ModelFile:
    if given is None:
        return shipped_model(name, precision or fastest_precision(provider))
    return given if isinstance(given, ModelFile) else Path(given)
