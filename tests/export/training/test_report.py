"""The textbook's notebooks call Report as they call the class of its library."""

from __future__ import annotations

import copy
import itertools
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest
import torch

from mien.export import Report
from mien.export.training import curves
from mien.export.training.history import History
from mien.runtime.errors import InputError, OutputError

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def trained(epochs: int = 3, steps: int = 4) -> Report:
    """A report of the chapter's loop: the losses fall by 1 an epoch, from 4."""
    log = Report(epochs)
    for epoch in range(epochs):
        for i in range(steps):
            log.record(epoch + (i + 1) / steps, trn_loss=torch.tensor(4.0 - epoch, requires_grad=True), end="\r")
        for i in range(steps):
            log.record(pos=epoch + (i + 1) / steps, val_loss=np.float32(5.0 - epoch), val_acc=0.5, end="\r")
        log.report_avgs(epoch + 1)
    return log


def lines_of(axes: plt.Axes) -> dict[str, tuple[list[float], list[float], str]]:
    return {str(li.get_label()): (list(li.get_xdata()), list(li.get_ydata()), li.get_linestyle()) for li in axes.lines}


def test_every_record_is_printed_on_one_line_until_the_epochs_means(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(action="error"):
        trained()
    printed = capsys.readouterr().out
    assert printed.count("\n") == 3 and printed.count("\r") == 3 * (4 + 4 + 1)
    last = printed.splitlines()[-1].split("\r")[-1]
    assert last.startswith("EPOCH: 3.000  trn_loss: 2.000  val_loss: 3.000  val_acc: 0.500  (")
    assert last.endswith("s remaining)")


def test_a_shorter_line_covers_the_one_it_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    log = Report()
    log.record(0.5, trn_loss=1.0, trn_acc=0.5, end="\r")
    log.record(1, val_loss=1.0, end="\r")
    log.report_avgs(2)
    _, longest, shorter, last = capsys.readouterr().out.split("\r")
    assert len(shorter) == len(longest) and len(last.rstrip("\n")) == len(shorter.rstrip())


def test_a_single_epoch_is_visible() -> None:
    axes = plt.figure().add_subplot()
    trained(epochs=1).plot_epochs(["val_loss"], ax=axes)
    assert [line.get_marker() for line in axes.lines] == ["."]


def test_a_line_has_its_prefix_its_end_and_the_wanted_decimals(capsys: pytest.CaptureFixture[str]) -> None:
    now = itertools.count()
    Report(4, precision=1, clock=lambda: float(next(now))).record(2, loss=0.26, log="fold 1", end="!")
    Report().record(1, loss=1)
    first, second = capsys.readouterr().out.split("!")
    assert first.startswith("\rfold 1: EPOCH: 2.000  loss: 0.3  (") and second.endswith("s)\n")
    assert "remaining" not in second  # nothing says how long the training will be


def test_means_of_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    log = trained()
    assert log.report_avgs(2) == {"epoch_trn_loss": 3.0, "epoch_val_loss": 4.0, "epoch_val_acc": 0.5}
    assert log.report_avgs(2, return_avgs=False) is None and log.report_avgs(9) == {}
    thirds = Report(1)
    for i in range(3):
        thirds.record(0.1 + 0.2 + 0.7 * (i + 1) / 3, loss=float(i))  # the last is a rounding error above 1
    assert thirds.report_avgs(1) == {"epoch_loss": 1.0}


def test_steps_counted_from_zero_belong_to_the_epoch_that_they_start() -> None:
    log = Report(2)
    for step in range(8):
        log.record(step / 4, loss=float(step))
    assert log.report_avgs(1) == {"epoch_loss": 1.5} and log.report_avgs(2) == {"epoch_loss": 5.5}


def test_metrics_are_attributes() -> None:
    log = trained(1, 2)
    assert log.trn_loss == [(0.5, 4.0), (1.0, 4.0)] and log.trn_loss[0].val == 4.0
    assert log.history("val_loss") == [5.0, 5.0] and log.completed_epochs == 1
    assert set(log.logged) == {"trn_loss", "val_loss", "val_acc"}
    assert not hasattr(log, "trn_los") and copy.deepcopy(log).rows == log.rows
    with pytest.raises(InputError, match=r"no metric 'trn_los' was recorded; there are: trn_loss, val_loss, val_acc"):
        log.history("trn_los")


def test_an_earlier_report_comes_before() -> None:
    log = Report(2, old_report=trained(2, 2))
    log.record(1, trn_loss=1.0)
    assert log.trn_loss == [(-1.5, 4.0), (-1.0, 4.0), (-0.5, 3.0), (0.0, 3.0), (1.0, 1.0)]
    _, axes = plt.subplots()
    log.plot_epochs(["trn_loss"], ax=axes)
    assert lines_of(axes)["trn_loss"][:2] == ([-1, 0, 1], [4.0, 3.0, 1.0])


def test_plots_hold_the_recorded_values() -> None:
    log = trained()
    _, (each, mean) = plt.subplots(1, 2)
    log.plot(ax=each, log=True)
    log.plot_epochs("loss", ax=mean, title="losses")
    lines = lines_of(each)
    assert lines["trn_loss"][0] == [(i + 1) / 4 for i in range(12)] and lines["trn_loss"][2] == "-"
    assert lines["val_loss"][1] == [5.0] * 4 + [4.0] * 4 + [3.0] * 4 and lines["val_loss"][2] == "--"
    assert lines_of(mean) == {"trn_loss": ([1, 2, 3], [4, 3, 2], "-"), "val_loss": ([1, 2, 3], [5, 4, 3], "--")}
    assert (each.get_yscale(), mean.get_yscale(), mean.get_title()) == ("log", "linear", "losses")


def test_smoothing_averages_what_has_come_so_far() -> None:
    log = Report(1)
    for i in range(4):
        log.record((i + 1) / 4, loss=float(i))
    _, axes = plt.subplots()
    log.plot(["loss"], smooth=3, ax=axes)
    assert lines_of(axes)["loss"][1] == [0.0, 0.5, 1.0, 2.0]


def test_values_that_a_logarithm_has_not_are_shown_all_the_same() -> None:
    log = Report(2)
    log.record(1, loss=0.0)
    log.record(2, loss=-1.0)
    _, axes = plt.subplots()
    log.plot_epochs(["loss"], log=True, ax=axes)
    assert axes.get_yscale() == "linear" and lines_of(axes)["loss"][1] == [0.0, -1.0]


def test_plots_without_a_display_are_kept_and_files_are_written(tmp_path: Path) -> None:
    log = trained()
    plt.close("all")
    with warnings.catch_warnings(action="error"):
        log.plot_epochs()
        log.plot(["trn_loss"])
        assert len(plt.get_fignums()) == 2
        log.plot_epochs(["trn_loss"], path=tmp_path / "a.png")
        log.plot(path=str(tmp_path / "b.png"), figsize=(3, 2))
        assert len(plt.get_fignums()) == 2
    assert cv2.imread(str(tmp_path / "a.png")).shape[:2] == (720, 960)
    assert cv2.imread(str(tmp_path / "b.png")).shape[:2] == (240, 360)
    plt.close("all")
    with pytest.raises(InputError, match="no metric 'trn_los' was recorded"):
        log.plot_epochs(["trn_los"], path=tmp_path / "c.png")
    with pytest.raises(OutputError, match="cannot write"):
        log.plot(path=tmp_path / "none" / "d.png")
    assert not (tmp_path / "c.png").exists()


def test_means_are_written_as_csv(tmp_path: Path) -> None:
    log = Report(2)
    log.record(0.5, trn_loss=4.0)
    log.record(1.0, trn_loss=2.0, val_loss=3.0)
    log.record(2.0, trn_loss=1.0)
    log.save_csv(str(tmp_path / "m.csv"))
    assert (tmp_path / "m.csv").read_text().split() == ["epoch,trn_loss,val_loss", "1,3,3", "2,1,"]
    with pytest.raises(OutputError, match="cannot write"):
        log.save_csv(tmp_path / "none" / "m.csv")


def test_time_left_after_a_resume_counts_what_was_done_since() -> None:
    now = [0.0]
    history = History(10, clock=lambda: now[0])
    history.rows = [(position, {"trn_loss": 1.0}) for position in (1, 2, 3, 4, 5)]  # as a resume restores them
    now[0] = 10.0
    history.add(5.5, {"trn_loss": 1.0})
    assert history.seconds_left() == pytest.approx(90)


def test_report_is_imported_without_pytorch() -> None:
    code = "import sys; from mien.export import Report; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_picture_of_a_run_marks_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(curves, "_save", lambda figure, path: figures.append(figure))
    losses = {"trn_loss": [(1, 8.0), (2, 0.5), (3, 0.1)]}
    metrics = {"nme": [(1, 9.0), (2, 5.0), (3, 6.0)]}
    curves.plot_run(losses, metrics, best_epoch=2, path=tmp_path / "c.png")
    curves.plot_run({"trn_loss": losses["trn_loss"][1:]}, metrics, best_epoch=2, path=tmp_path / "c.png")
    (steep, nme), (flat, _) = (figure.axes for figure in figures)
    assert [axes.get_yscale() for axes in (steep, nme, flat)] == ["log", "linear", "linear"]
    assert nme.get_title() == "nme 5 at epoch 2"
    assert "best epoch: 2" in [text.get_text() for text in nme.get_legend().get_texts()]
    figures[0].canvas.draw()
    labels = [text.get_text() for text in steep.get_yticklabels() if text.get_text()]
    assert {"0.1", "0.5", "1", "5"} <= set(labels)
    assert all(float(text.get_text().replace("\u2212", "-")).is_integer() for text in nme.get_xticklabels())
