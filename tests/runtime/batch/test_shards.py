"""Runs in shards, without a cluster: the rows of the local run, resumed and refused where they must be."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow")

from mien.runtime.batch.packed_pipeline import PackedPipeline, pack_pipeline
from mien.runtime.batch.predict import Predictor
from mien.runtime.batch.shard_run import Run, predict_shards
from mien.runtime.batch.shard_worker import ATTEMPTS, Outcome, Shard, ShardTask, ShardWorker
from mien.runtime.batch.storage import Folder, file_system, find_pictures
from mien.runtime.errors import InputError, ModelError, OutputError, ProviderError
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.runtime.pipeline.pipeline import Pipeline
from mien.runtime.pipeline.pipeline_options import PipelineOptions


@pytest.fixture(scope="module")
def packed() -> PackedPipeline:
    return pack_pipeline(PipelineOptions(), max_side=320)


@pytest.fixture
def photos(landmark_folder: Path) -> Path:
    """Ten drawn faces in two folders, and two files that are no pictures."""
    folder = landmark_folder.parent / "photos"
    for n, path in enumerate(sorted((landmark_folder / "images").iterdir())[:10]):
        at = folder / ("b c" if n < 5 else "b")
        at.mkdir(parents=True, exist_ok=True)
        path.rename(at / path.name)
    (folder / "b" / "face_06b.jpg").write_bytes(b"no picture")
    (folder / "b" / "face_09.bmp").touch()
    return folder


class Here:
    """Does shards in this process, in any order; `done` are their numbers."""

    def __init__(self, *, at_most: int | None = None) -> None:
        self.done: list[int] = []
        self._at_most = at_most

    def __call__(self, task: ShardTask, shards: Sequence[Shard]) -> Generator[Outcome, None, None]:
        worker = ShardWorker(task)
        for shard in list(reversed(shards))[: self._at_most]:
            self.done.append(shard.number)
            yield worker(shard)


def predict(
    inputs: Sequence[object], out: object, packed: PackedPipeline, here: Here | None = None, *, shard_size: int = 3
) -> Run:
    return predict_shards(
        [str(i) for i in inputs],
        packed,
        here if here is not None else Here(),
        out=str(out),
        shard_size=shard_size,
        progress=lambda done, total: None,
    )


def local_run(inputs: Sequence[Path], target: Path) -> tuple[bytes, list[str]]:
    with (
        Pipeline.load(threads=1, max_side=320) as pipeline,
        Predictor(pipeline, json_target=str(target)) as predictor,
    ):
        predictor.run(inputs)
    return target.read_bytes(), predictor.failures


def rows_in(out: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(out.glob("*.jsonl")))


@pytest.mark.parametrize("shard_size", [1, 5, 100])
def test_rows_and_failures_are_those_of_the_local_run(
    photos: Path, tmp_path: Path, packed: PackedPipeline, shard_size: int
) -> None:
    alone = sorted((photos / "b").iterdir())[0]
    empty = tmp_path / "empty"
    empty.mkdir()
    inputs = [photos, empty, alone]
    rows, failures = local_run(inputs, tmp_path / "local.jsonl")
    run = predict(inputs, tmp_path / "out", packed, shard_size=shard_size)
    assert rows.count(b"\n") == 11 and len(failures) == 3
    assert rows_in(tmp_path / "out") == rows and sorted(run.failures) == sorted(failures)
    assert run.shards == -(-13 // shard_size) and run.resumed == 0


def test_relative_names_stay_as_they_were_given(
    photos: Path, tmp_path: Path, packed: PackedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    rows, _ = local_run([Path("b c")], tmp_path / "local.jsonl")
    predict(["b c/"], tmp_path / "out", packed)
    assert rows_in(tmp_path / "out") == rows and json.loads(rows.splitlines()[0])["image"] == "b c/face_00.png"


def test_a_relative_folder_is_the_same_for_a_process_that_works_elsewhere(
    photos: Path, tmp_path: Path, packed: PackedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(Here):
        def __call__(self, task: ShardTask, shards: Sequence[Shard]) -> Generator[Outcome, None, None]:
            monkeypatch.chdir("/")
            file_system.cache_clear()  # another process has none
            yield from super().__call__(task, shards)

    monkeypatch.chdir(tmp_path)
    run = predict([photos / "b c"], "rows", packed, Elsewhere())
    assert not run.failures and rows_in(tmp_path / "rows").count(b"\n") == 5


def test_uris_are_listed_and_written_like_folders(photos: Path, tmp_path: Path, packed: PackedPipeline) -> None:
    """The file system behind ``file://`` is asked as that of object storage is."""
    local, failures = local_run([photos], tmp_path / "local.jsonl")
    run = predict([photos.as_uri(), f"file://{photos}/none.jpg"], f"file://{tmp_path}/out", packed)
    assert rows_in(tmp_path / "out").replace(b"file://", b"") == local
    assert [f.replace("file://", "") for f in run.failures] == [f"no file {photos}/none.jpg", *failures]


def test_a_run_that_was_ended_goes_on(photos: Path, tmp_path: Path, packed: PackedPipeline) -> None:
    out = tmp_path / "out"
    begun = Here(at_most=2)
    predict([photos], out, packed, begun)
    assert begun.done == [3, 2]
    before = {path.name: path.stat() for path in out.iterdir()}
    (out / "00000001.begun").write_bytes(b"...")  # as a run leaves it that is ended while it does a shard
    (out / ".mien-0123.jsonl").write_bytes(b"{")  # and while it writes
    rest = Here()
    run = predict([photos], out, packed, rest)
    assert rest.done == [1, 0] and (run.resumed, run.shards) == (2, 4)
    for name, stat in before.items():
        now = (out / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns), name
    rows, failures = local_run([photos], tmp_path / "local.jsonl")
    assert rows_in(out) == rows and list(run.failures) == failures
    none = Here()
    assert predict([photos], out, packed, none).failures == tuple(failures) and none.done == []
    assert not list(out.glob("*.begun")) and not list(out.glob(".mien-*"))


def test_another_run_is_refused(photos: Path, tmp_path: Path, packed: PackedPipeline) -> None:
    out = tmp_path / "out"
    predict([photos], out, packed)
    before = rows_in(out)
    with pytest.raises(InputError, match="shard_size 3, now 4"):
        predict([photos], out, packed, shard_size=4)
    with pytest.raises(InputError, match="pictures 12, now 5"):
        predict([photos / "b c"], out, packed)
    with pytest.raises(InputError, match="max_side 320, now 640"):
        predict([photos], out, replace(packed, max_side=640))
    with pytest.raises(InputError, match=r"age_gender_sha256 [0-9a-f]{12}, now none"):
        predict([photos], out, pack_pipeline(PipelineOptions(attributes=False), max_side=320))
    (photos / "b" / "face_05.png").rename(photos / "b" / "face_04.png")
    with pytest.raises(InputError, match="pictures_sha256"):
        predict([photos], out, packed)
    assert rows_in(out) == before
    (out / "plan.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        predict([photos], out, packed)


@pytest.mark.parametrize("scheme", ["", "fsspec+file://"])
def test_replaced_pictures_are_another_run(photos: Path, tmp_path: Path, packed: PackedPipeline, scheme: str) -> None:
    out, picture = tmp_path / "out", photos / "b" / "face_05.png"
    predict([f"{scheme}{photos}"], out, packed)
    assert predict([f"{scheme}{photos}"], out, packed).resumed == 4
    status = picture.stat()
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    with pytest.raises(InputError, match="pictures_sha256"):
        predict([f"{scheme}{photos}"], out, packed)
    picture.write_bytes(picture.read_bytes() + b"x")
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(InputError, match="pictures_sha256"):
        predict([f"{scheme}{photos}"], out, packed)


@pytest.mark.parametrize("scheme", ["", "fsspec+file://"])
def test_what_is_no_file_is_told_unopened(photos: Path, tmp_path: Path, packed: PackedPipeline, scheme: str) -> None:
    odd = ["b/broken.jpg", "b/loop.jpg", "b/pipe.jpg"]
    (photos / odd[0]).symlink_to("nowhere")
    (photos / odd[1]).symlink_to("loop.jpg")
    os.mkfifo(photos / odd[2])
    (photos / "b" / "folder.jpg").mkdir()
    rows, failures = local_run([photos], tmp_path / "local.jsonl")
    told = [line for line in failures if any(name in line for name in odd)]
    assert len(told) == 3 and told[0] == f"no file {photos / odd[0]}"
    assert "levels of symbolic links" in told[1] and "is a pipe or a device" in told[2]
    run = predict([f"{scheme}{photos}"], tmp_path / "out", packed)
    assert rows_in(tmp_path / "out").replace(scheme.encode(), b"") == rows
    told_of = {line.replace(scheme, "").replace("no file ", "").split()[0] for line in run.failures}
    assert told_of == {line.replace("no file ", "").split()[0] for line in failures}


@pytest.mark.parametrize("damage", ["[", "3"])
def test_damaged_failures_are_named_with_the_way_on(
    photos: Path, tmp_path: Path, packed: PackedPipeline, damage: str
) -> None:
    out = tmp_path / "out"
    predict([photos], out, packed)
    rows, (broken, *_) = rows_in(out), sorted(out.glob("*.failures.json"))
    broken.write_text(damage)
    with pytest.raises(InputError, match=rf"{broken.name} .* remove it and {broken.name[:8]}\.jsonl") as told:
        predict([photos], out, packed)
    for name in (broken.name, f"{broken.name[:8]}.jsonl"):
        assert name in str(told.value)
        (out / name).unlink()
    again = Here()
    predict([photos], out, packed, again)
    assert again.done == [int(broken.name[:8])] and rows_in(out) == rows


def test_a_folder_of_something_else_is_refused(photos: Path, tmp_path: Path, packed: PackedPipeline) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rows.jsonl").touch()
    with pytest.raises(InputError, match=r"found rows.jsonl and no plan.json"):
        predict([photos], tmp_path / "out", packed)


def test_a_video_is_refused(photos: Path, tmp_path: Path, packed: PackedPipeline) -> None:
    clip = photos / "clip.mp4"
    clip.write_bytes(b"\0\0\0\x14ftypisom\0\0\0\0isom")
    for place in (clip, clip.as_uri()):
        with pytest.raises(InputError, match=r"clip.mp4 is not a picture; .* without --ray"):
            predict([photos, place], tmp_path / "out", packed)
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_none_is_told(tmp_path: Path, packed: PackedPipeline) -> None:
    with pytest.raises(InputError, match="nosuch://bucket/x cannot be opened"):
        predict(["nosuch://bucket/x"], tmp_path / "out", packed)
    run = predict([tmp_path / "none.jpg"], tmp_path / "out", packed)
    assert run.failures == (f"no file {tmp_path / 'none.jpg'}",) and run.shards == 0


def test_a_shard_that_ends_every_process_is_given_up(photos: Path, tmp_path: Path, packed: PackedPipeline) -> None:
    out = tmp_path / "out"

    def lost_at_first(task: ShardTask, shards: Sequence[Shard]) -> Generator[Outcome, None, None]:
        (out / shards[0].file(".begun")).write_bytes(b"." * ATTEMPTS)
        (out / shards[1].file(".begun")).write_bytes(b"." * (ATTEMPTS - 1))
        (out / shards[2].file(".failures.json")).write_text('["was there before"]')
        yield from map(ShardWorker(task), shards)

    run = predict_shards(
        [str(photos)], packed, lost_at_first, out=str(out), shard_size=4, progress=lambda done, total: None
    )
    assert [p.name for p in sorted(out.glob("*.jsonl"))] == ["00000001.jsonl", "00000002.jsonl"]
    assert len([f for f in run.failures if "shard 0" in f and "face_05.png to" in f and "lost 3 processes" in f]) == 1
    assert not (out / "00000002.failures.json").exists()  # what is told is what its rows were written with
    again = Here()
    predict([photos], out, packed, again, shard_size=4)
    assert again.done == [0]


def test_a_shard_that_a_machine_cannot_see_is_not_done(photos: Path, tmp_path: Path, packed: PackedPipeline) -> None:
    out = tmp_path / "out"

    def elsewhere(task: ShardTask, shards: Sequence[Shard]) -> Generator[Outcome, None, None]:
        photos.rename(tmp_path / "away")
        yield from map(ShardWorker(task), shards[:1])
        (tmp_path / "away").rename(photos)
        yield from map(ShardWorker(task), shards[1:])

    run = predict_shards(
        [str(photos)], packed, elsewhere, out=str(out), shard_size=6, progress=lambda done, total: None
    )
    assert "could read none of its pictures (no file" in run.failures[0]
    assert [p.name for p in out.glob("*.jsonl")] == ["00000001.jsonl"]


def test_a_machine_with_another_folder_ends_the_run(photos: Path, tmp_path: Path, packed: PackedPipeline) -> None:
    def elsewhere(task: ShardTask, shards: Sequence[Shard]) -> Generator[Outcome, None, None]:
        yield from map(ShardWorker(replace(task, out=str(tmp_path))), shards)

    with pytest.raises(OutputError, match="is not the folder that the run was started with"):
        predict_shards([str(photos)], packed, elsewhere, out=f"{tmp_path}/out", progress=lambda done, total: None)


def test_a_machine_without_the_provider_ends_the_run(photos: Path, tmp_path: Path, packed: PackedPipeline) -> None:
    with pytest.raises(ProviderError):
        predict([photos], tmp_path / "out", replace(packed, provider=Provider.TENSORRT))


def test_a_folder_that_cannot_be_written_is_told(photos: Path, tmp_path: Path, packed: PackedPipeline) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot"):
        predict([photos], tmp_path / "file" / "out", packed)


def test_files_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"first")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"cannot write a in .*No space left"):
        folder.write("a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first" and [p.name for p in tmp_path.iterdir()] == ["a"]
    (tmp_path / ".mien-0123.jsonl").touch()  # left by a process that was killed
    assert folder.names() == {"a"}
    folder.remove("a")
    folder.remove("a")
    assert folder.read("a") is None and folder.names() == set()


def test_folders_are_listed_in_the_local_order(tmp_path: Path) -> None:
    for name in ("a.b/2.jpg", "a/3.JPG", "a-b/1.png", "a/b/0.webp", "a.jpg", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    local = find_pictures([str(tmp_path)], [])
    remote = find_pictures([f"fsspec+file://{tmp_path}"], [])
    assert len(local) == 5 and [p.path for p in remote] == [p.path for p in local]


def test_names_that_are_no_utf8_are_read(tmp_path: Path, packed: PackedPipeline) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    name = os.fsdecode(os.fsencode(folder) + b"/\xff.png")
    try:
        Path(name).write_bytes(cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes())
    except OSError:
        pytest.skip("this file system wants UTF-8")
    rows, _ = local_run([folder], tmp_path / "local.jsonl")
    assert predict([folder], tmp_path / "out", packed).failures == () and rows_in(tmp_path / "out") == rows


def test_models_are_those_that_were_chosen(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from mien.tests.fakes.own_models import write_own_model

    assert set(pack_pipeline(PipelineOptions(), max_side=320).models) == {"landmarks", "detector", "age_gender"}
    own = write_own_model(tmp_path / "own.onnx", "landmarks")
    chosen = pack_pipeline(PipelineOptions(own, attributes=False), max_side=320)
    assert chosen.models["landmarks"] == own.read_bytes()
    assert set(chosen.models) == {"landmarks", "detector"} and chosen.provider is Provider.CPU
    with pytest.raises(ModelError, match=r"mien export best.pt -o best.onnx"):
        pack_pipeline(PipelineOptions(Path("best.pt")), max_side=320)
    with pytest.raises(ModelError, match="expected a landmark model"):
        pack_pipeline(PipelineOptions(shipped_model("age_gender")), max_side=320)


def test_a_model_in_several_files_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    whole = onnx.load(str(shipped_model("landmarks")))
    own = tmp_path / "own.onnx"
    onnx.save_model(whole, str(own), save_as_external_data=True, location="own.data", size_threshold=4096)
    with pytest.raises(ModelError, match=r"own\.onnx: expected a model in one file, found its weights in own\.data"):
        pack_pipeline(PipelineOptions(own, attributes=False), max_side=320)
