"""The input scale follows the weights; it is never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mien.export.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mien.export.networks.input_scale import input_scale
from mien.export.networks.normalization import Normalization
from mien.runtime.errors import InputError, ModelError
from mien.runtime.models.spec import ModelSpec, Task

IMAGENET, SYMMETRIC = Normalization.IMAGENET, Normalization.SYMMETRIC


def weights(folder: Path, metadata: dict[str, str] | None) -> str:
    save_file({"w": torch.zeros(1)}, folder / "w.safetensors", metadata=metadata)
    return str(folder / "w.safetensors")


@pytest.mark.parametrize("scale", Normalization)
def test_the_metadata_of_the_file_decide(scale: Normalization, tmp_path: Path) -> None:
    file = weights(tmp_path, {"normalization": scale.value})
    assert input_scale(file, None, None) is scale
    assert input_scale(file, None, scale) is scale
    other = IMAGENET if scale is SYMMETRIC else SYMMETRIC
    with pytest.raises(InputError, match=f"expects the input scale {scale.value}, found --normalization {other.value}"):
        input_scale(file, None, other)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_file_that_does_not_say_needs_the_option(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    file = weights(tmp_path, metadata)
    with pytest.raises(InputError, match=r"add --normalization imagenet .* or --normalization symmetric"):
        input_scale(file, None, None)
    assert input_scale(file, None, SYMMETRIC) is SYMMETRIC


def test_a_scale_that_is_unknown_and_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected normalization imagenet or symmetric in its metadata, found 'caffe'"):
        input_scale(weights(tmp_path, {"normalization": "caffe"}), None, SYMMETRIC)
    (tmp_path / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    for name in ("broken.safetensors", "missing.safetensors", "missing.pt"):
        with pytest.raises(InputError, match=name):
            input_scale(str(tmp_path / name), None, None)


def test_torchvisions_weights_and_none() -> None:
    assert input_scale("default", None, None) is IMAGENET
    with pytest.raises(InputError, match="omit the option"):
        input_scale("default", None, SYMMETRIC)
    assert [input_scale("none", None, given) for given in (None, SYMMETRIC)] == [IMAGENET, SYMMETRIC]


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    spec = ModelSpec(Task.CLASSIFY, (32, 32), ("probabilities",), classes=("a", "b"))
    save_checkpoint(tmp_path / "best.pt", Checkpoint(spec, {}, {}, {"w": torch.zeros(1)}))
    with pytest.raises(ModelError, match=r"is a folder, expected a checkpoint; try .*best\.pt"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_tells_its_own(tmp_path: Path) -> None:
    spec = ModelSpec(Task.CLASSIFY, (32, 32), ("probabilities",), classes=("a", "b"))
    save_checkpoint(tmp_path / "c.pt", Checkpoint(spec, {"normalization": "symmetric"}, {}, {"w": torch.zeros(1)}))
    assert input_scale("default", tmp_path / "c.pt", None) is SYMMETRIC
    odd: list[tuple[dict[str, str], str]] = [
        ({}, "does not state which input scale"),
        ({"normalization": "x"}, "expected normalization imagenet or symmetric"),
    ]
    for config, message in odd:
        save_checkpoint(tmp_path / "odd.pt", Checkpoint(spec, config, {}, {"w": torch.zeros(1)}))
        with pytest.raises(InputError, match=rf"odd\.pt.*{message}"):
            input_scale("default", tmp_path / "odd.pt", None)
    with pytest.raises(InputError, match=r"c\.pt expects the input scale symmetric, found --normalization imagenet"):
        input_scale("default", tmp_path / "c.pt", IMAGENET)
