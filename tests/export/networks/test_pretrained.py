"""Weights files of other programs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mien.export.networks.backbones import ARCHITECTURES, Architecture, build_backbone
from mien.export.networks.checkpoint import CHECKPOINTS
from mien.export.networks.pretrained import fitting, read_state_dict
from mien.runtime.errors import InputError

NAME = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state = build_backbone(NAME, "none").state_dict()
    return {name: torch.rand_like(value) if value.is_floating_point() else value for name, value in state.items()}


def prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def same(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    features = {k: v for k, v in model.state_dict().items() if k.startswith("features.")}
    return all(torch.equal(value, state[name]) for name, value in features.items())


@pytest.mark.parametrize("kind", ["plain", "parallel", "lightning", "nested", "no counts", "halves", "no classifier"])
def test_files_of_trainers_are_read(kind: str, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    of_batches = "num_batches_tracked"
    content: dict[str, Any] = {
        "plain": trained,
        "parallel": prefixed(trained, "module."),
        "lightning": {"epoch": 3, "state_dict": {"loss.weight": torch.ones(2), **prefixed(trained, "model.")}},
        "nested": {"epoch": 3, "model": {"state_dict": prefixed(trained, "module.backbone.")}, "optimizer": {}},
        "no counts": {k: v for k, v in trained.items() if not k.endswith(of_batches)},
        "halves": {k: v.half() if v.is_floating_point() else v for k, v in trained.items()},
        "no classifier": {k: v for k, v in trained.items() if k.startswith("features.")},
    }[kind]
    torch.save(content, path)
    wanted = {k: v.half().float() if v.is_floating_point() else v for k, v in trained.items()}
    assert same(build_backbone(NAME, str(path)), wanted if kind == "halves" else trained)


def test_a_classifier_of_other_classes_is_left_out(trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(trained | {"classifier.3.weight": torch.ones(7, 1024), "classifier.3.bias": torch.ones(7)}, path)
    assert same(build_backbone(NAME, str(path)), trained)


def test_safetensors_are_known_by_their_content(trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    for name in ("w.safetensors", "w.pt"):
        safetensors.save_file(prefixed(trained, "module."), tmp_path / name)
        assert same(build_backbone(NAME, str(tmp_path / name)), trained)


def test_another_network_is_named(trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(trained, path)
    with pytest.raises(
        InputError, match=f"the weights of resnet18 .expected a tensor conv1.weight.*--backbone {NAME}$"
    ):
        build_backbone("resnet18", str(path))
    torch.save(build_backbone("mobilenet_v2", "none").state_dict(), path)
    with pytest.raises(InputError, match=r"use --backbone mobilenet_v2$"):  # its reduced versions do not suit all tasks
        build_backbone("resnet18", str(path))
    torch.save(trained | {"features.0.0.weight": torch.zeros(16, 1, 3, 3)}, path)
    with pytest.raises(
        InputError, match=r"expected features.0.0.weight of shape \(16, 3, 3, 3\), found \(16, 1, 3, 3\)"
    ):
        build_backbone(NAME, str(path))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "is a web page.*download the file itself"),
        (b"<html>Not found</html>", "is a web page"),
        (b"no pickle", "is not a weights file; expected safetensors or"),
        (b"", "is not a weights file"),
        (b"PK\3\4 and no more", r"is damaged \(.+\)"),
        (b'\x10\0\0\0\0\0\0\0{"a":', "is damaged"),
    ],
)
def test_what_is_no_weights_file_is_named(content: bytes, line: str, tmp_path: Path) -> None:
    for name in ("w.safetensors", "w.pth"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=line):
            read_state_dict(tmp_path / name)


def test_the_lines_of_a_download_leave_standard_output_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(weights: str) -> nn.Module:
        print(f"Downloading {weights}")
        return nn.Identity()

    monkeypatch.setitem(ARCHITECTURES, "downloaded", Architecture(download, (1, 2, 3, 4)))
    assert isinstance(build_backbone("downloaded", "default"), nn.Identity)
    assert capsys.readouterr() == ("", "Downloading DEFAULT\n")


def test_files_without_a_state_dict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with pytest.raises(InputError, match="no weights file"):
        read_state_dict(path)
    for content in (Namespace(a=1), nn.Linear(1, 1)):
        torch.save({"state_dict": {}, "more": content}, path)
        with pytest.raises(InputError, match="contains more than tensors"):
            read_state_dict(path)
    for content in ([torch.ones(1)], {"epoch": 3}, torch.ones(1), {"state_dict": {"a": 3}}):
        torch.save(content, path)
        with pytest.raises(InputError, match="holds no weights"):
            read_state_dict(path)


def test_a_checkpoint_of_mien_is_for_another_option() -> None:
    with pytest.raises(InputError, match=r"use --init-from .*landmarks\.pt"):
        read_state_dict(CHECKPOINTS / "landmarks.pt")


def test_the_shortest_prefix_is_taken() -> None:
    wanted = {"a.weight": torch.zeros(1)}
    student, teacher = torch.ones(1), torch.zeros(1)
    assert fitting({"teacher.model.a.weight": teacher, "a.weight": student}, wanted)["a.weight"] is student
