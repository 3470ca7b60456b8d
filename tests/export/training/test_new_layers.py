"""`--new-layers-only` trains the layers that a checkpoint of another backbone lacks, and keeps the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mien.export.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mien.export.networks.normalization import Normalization
from mien.export.training.config import NetworkConfig, TrainConfig
from mien.export.training.loop import fit
from mien.export.training.tasks.landmarks import LandmarkTraining
from mien.runtime.errors import InputError, ModelError

ONE_EPOCH = TrainConfig(epochs=1, batch_size=8, learning_rate=1e-2, workers=0, average=0.0)


def config(backbone: str, init_from: Path | None = None, *, new_layers_only: bool = False) -> NetworkConfig:
    return NetworkConfig(backbone, "none", Normalization.SYMMETRIC, init_from, new_layers_only)


@pytest.fixture
def large(landmark_folder: Path, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    task = LandmarkTraining(landmark_folder, config("mobilenet_v2_lean"), input_size=64)
    save_checkpoint(tmp_path / "large.pt", Checkpoint(task.spec, task.config, {}, task.net.state_dict()))
    return tmp_path / "large.pt"


def test_shared_layers_stay_as_they_are(large: Path, landmark_folder: Path, tmp_path: Path) -> None:
    network = config("mobilenet_v2_lean_plain8", large, new_layers_only=True)
    task = LandmarkTraining(landmark_folder, network, input_size=64)
    start = {k: v.clone() for k, v in task.net.state_dict().items()}
    trained = fit(task, ONE_EPOCH, tmp_path / "run").weights
    old = load_checkpoint(large).weights
    shared = "backbone.stages.1.1.conv.0."  # a block of the same shape in both, with its batch normalization
    kept = [k for k in trained if k.startswith((shared, "merge.", "heat.", "summary."))]
    assert len(kept) > 20 and all(torch.equal(trained[k], old[k]) for k in kept)
    new = [k for k in trained if k.startswith(("backbone.stages.0.", "lateral.0."))]
    assert new and not any(torch.equal(trained[k].float(), start[k].float()) for k in new)
    assert (
        load_checkpoint(tmp_path / "run" / "best.pt").config["started_from"]
        == load_checkpoint(large).spec.weights_sha256
    )


def test_networks_that_share_nothing_or_everything_are_refused(large: Path, landmark_folder: Path) -> None:
    with pytest.raises(InputError, match=r"no layers that .*large\.pt lacks; omit --new-layers-only"):
        LandmarkTraining(landmark_folder, config("mobilenet_v2_lean", large, new_layers_only=True), input_size=64)
    with pytest.raises(InputError, match="--new-layers-only needs --init-from"):
        LandmarkTraining(landmark_folder, config("mobilenet_v2_lean", new_layers_only=True), input_size=64)
    with pytest.raises(ModelError, match="holds another network"):
        LandmarkTraining(landmark_folder, config("mobilenet_v2_lean_plain8", large), input_size=64)
