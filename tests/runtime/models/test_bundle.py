"""Bundles: what is packed comes out again, and what is not quite a bundle is refused with its reason."""

from __future__ import annotations

import hashlib
import io
import json
import random
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mien.cli import app
from mien.runtime.batch.packed_pipeline import open_packed_pipeline, pack_pipeline
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.errors import InputError, ModelError
from mien.runtime.models import bundle as bundles
from mien.runtime.models.bundle import (
    FACES,
    MANIFEST,
    PICTURE,
    BundledModel,
    golden_file,
    pack_bundle,
    read_bundle,
)
from mien.runtime.models.model_file import ModelFile
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import ModelSpec, Precision, Task
from mien.runtime.output.rows import face_rows
from mien.runtime.pictures.images import read_image
from mien.runtime.pipeline.pipeline import Pipeline
from mien.runtime.pipeline.pipeline_options import PipelineOptions
from mien.runtime.values import size_of

SPECS = {
    "detector": ModelSpec(Task.DETECTOR, (64, 64), ("boxes", "scores")),
    "landmarks": ModelSpec(Task.LANDMARKS, (32, 32), ("landmarks", "presence"), classes=("a", "b")),
}


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, version=(1, 0))
    return stream.getvalue()


def with_header(header: str) -> bytes:
    """An array's file with that header and three bytes."""
    text = header.encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(3)


def material() -> tuple[list[BundledModel], dict[str, bytes]]:
    """The smallest bundle: two models that are none, but well described."""
    files, models = {"cards/landmarks.md": b"# card\n"}, []
    files |= {PICTURE: npy(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)), FACES: npy(np.ones((2, 68, 3)))}
    for name, spec in SPECS.items():
        model, spec_file = f"models/{name}.fp32.onnx", f"specs/{name}.json"
        files |= {model: f"the {name} model".encode(), spec_file: spec.to_json().encode()}
        files[golden_file(name, "image")] = npy(np.arange(3 * 12, dtype=np.uint8).reshape(3, 2, 2, 3))
        files |= {golden_file(name, output): npy(np.linspace(0, 1, 3, dtype=np.float32)) for output in spec.outputs}
        models.append(BundledModel(name, Precision.FP32, model, spec_file, spec))
    return models, files


def packed() -> bytes:
    models, files = material()
    return pack_bundle(models, files, made_by="0.1.0")


def refused(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "bad.mien"
    path.write_bytes(data)
    with pytest.raises(ModelError) as error:
        read_bundle(path)
    assert str(path) in str(error.value)
    return str(error.value)


def rewritten(data: bytes, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None]) -> bytes:
    """The same archive, each member written by `change`."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as archive:
        for info in source.infolist():
            change(archive, info, source.read(info))
    return target.getvalue()


def with_manifest(**changes: Any) -> bytes:
    """A bundle whose manifest says something else."""

    def change(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        if info.filename == MANIFEST:
            data = json.dumps(json.loads(data) | changes).encode()
        archive.writestr(info, data)

    return rewritten(packed(), change)


def with_member(name: str, data: bytes = b"x", **fields: Any) -> bytes:
    """A bundle with one more member."""
    target = io.BytesIO(packed())
    with zipfile.ZipFile(target, "a") as archive:
        info = zipfile.ZipInfo("placeholder")
        for field, value in fields.items():
            setattr(info, field, value)
        info.filename = info.orig_filename = name
        archive.writestr(info, data)
    return target.getvalue()


def test_what_is_packed_comes_out_again(tmp_path: Path) -> None:
    models, files = material()
    path = tmp_path / "face.mien"
    path.write_bytes(pack_bundle(models, files, made_by="0.1.0"))
    bundle = read_bundle(path)
    assert bundle.files == files and bundle.models == tuple(models) and bundle.made_by == "0.1.0"
    assert bundle.find("landmarks", Precision.FP32) == models[1]
    assert bundle.find("landmarks", Precision.FP16) is None
    image, outputs = bundle.golden("landmarks")
    assert image.shape == (3, 2, 2, 3) and list(outputs) == ["landmarks", "presence"]
    assert outputs["presence"].tolist() == [0, 0.5, 1]
    picture, faces = bundle.picture()
    assert picture.shape == (4, 4, 3) and faces.shape == (2, 68, 3)
    assert bundle.models_in(Precision.FP32)["detector"].read_bytes() == b"the detector model"
    with pytest.raises(InputError, match=r"no fp16 models \(it has fp32\)"):
        bundle.models_in(Precision.FP16)


def test_the_same_members_make_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    models, files = material()
    first = pack_bundle(models, files, made_by="0.1.0")
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert pack_bundle(models, dict(reversed(files.items())), made_by="0.1.0") == first
    # On every Python: a bundle is read only where packing it again gives the same.
    digest = hashlib.sha256(pack_bundle([], {"a/b.txt": b"x"}, made_by="0.1.0")).hexdigest()
    assert digest == "b58a707681f3f467c62f4e5f4dd2764e7d9f9ec48d01db3d12b6607ac562d72d"


def test_a_missing_file_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no bundle .*none\.mien; mien bundle"):
        read_bundle(tmp_path / "none.mien")


def test_a_flipped_byte_anywhere_in_a_member_is_seen(tmp_path: Path) -> None:
    data = packed()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
    for info in infos:
        start = info.header_offset + 30 + len(info.filename)
        for offset in {start, start + info.file_size // 2, start + info.file_size - 1}:
            changed = bytearray(data)
            changed[offset] ^= 1
            refused(tmp_path, bytes(changed))


def test_a_change_with_its_checksum_made_good_is_seen(tmp_path: Path) -> None:
    def change(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        archive.writestr(info, data.replace(b"landmarks model", b"landmarks m0del"))

    assert "models/landmarks.fp32.onnx was changed" in refused(tmp_path, rewritten(packed(), change))


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    data = packed()
    for length in (0, 1, 100, len(data) // 2, len(data) - 1):
        assert "not a complete bundle" in refused(tmp_path, data[:length])


def test_damage_anywhere_is_a_message_and_never_another_error(tmp_path: Path) -> None:
    data, rng = packed(), random.Random(0)
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
        refused(tmp_path, bytes(changed))


def test_a_flipped_bit_around_the_members_is_seen(tmp_path: Path) -> None:
    """In the archive's own headers, of which no sum tells: dates, attributes, versions, offsets."""
    data = packed()
    around = set(range(len(data)))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            start = info.header_offset + 30 + len(info.filename)
            around -= set(range(start, start + info.file_size))
    for offset in sorted(around):
        changed = bytearray(data)
        changed[offset] ^= 1 << offset % 8
        refused(tmp_path, bytes(changed))


def test_what_mien_did_not_write_is_refused(tmp_path: Path) -> None:
    def dated(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        info.date_time = (2026, 1, 1, 0, 0, 0)
        archive.writestr(info, data)

    def other_letters(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        archive.writestr(info, data.decode().encode("utf-16") if info.filename == MANIFEST else data)

    for data in (bytes(50) + packed(), rewritten(packed(), dated), rewritten(packed(), other_letters)):
        assert "differs from what mien bundle wrote" in refused(tmp_path, data)


def test_a_bundle_of_the_future_is_refused(tmp_path: Path) -> None:
    assert "version 2, this mien reads up to 1; upgrade" in refused(tmp_path, with_manifest(version=2))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "something else"},
        {"version": "first"},
        {"version": 0},
        {"version": 1.0},
        {"version": True},
        {"version": float("inf")},
        {"mien": None},
        {"files": {"a": {"bytes": float("inf"), "sha256": ""}}},
        {"files": []},
        {"files": {"a": 1}},
        {"models": 3},
        {"models": [{"name": "landmarks"}]},
        {"models": [{"name": "nose", "precision": "fp32", "file": "a", "spec": "b"}]},
        {"models": []},
    ],
)
def test_a_manifest_that_is_none_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    refused(tmp_path, with_manifest(**changes))


def test_no_manifest_is_refused(tmp_path: Path) -> None:
    def change(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        if info.filename != MANIFEST:
            archive.writestr(info, data)

    assert "manifest.json is missing or invalid" in refused(tmp_path, rewritten(packed(), change))


@pytest.mark.parametrize(
    "name",
    [
        "../etc/passwd",
        "/etc/passwd",
        "models/../../x",
        "a\\..\\b",
        "c:x",
        "a//b",
        "folder/",
        ".hidden",
        "x\0y",
        "Ä",
        "",
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    assert "not a valid member name" in refused(tmp_path, with_member(name))


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFDIR):
        assert "link or a device" in refused(tmp_path, with_member("a", b"/etc", external_attr=(kind | 0o777) << 16))


def test_duplicates_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = with_member("models/landmarks.fp32.onnx")
    assert "'models/landmarks.fp32.onnx' more than once" in refused(tmp_path, data)


def test_what_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    assert "holds extra.bin, which its manifest does not list" in refused(tmp_path, with_member("extra.bin"))


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    message = refused(tmp_path, b"\xff\xd8\xff" + bytes(100))
    assert message.endswith("is not a complete bundle (it holds a JPEG picture); copy it again")


def test_missing_members_are_refused(tmp_path: Path) -> None:
    def change(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        if info.filename != "cards/landmarks.md":
            archive.writestr(info, data)

    assert "lacks cards/landmarks.md" in refused(tmp_path, rewritten(packed(), change))
    models, files = material()
    del files[golden_file("landmarks", "presence")]
    message = refused(tmp_path, pack_bundle(models, files, made_by="0.1.0"))
    assert "lacks golden/landmarks/presence.npy" in message
    for name in (PICTURE, FACES):
        _, files = material()
        del files[name]
        assert f"lacks {name}" in refused(tmp_path, pack_bundle(models, files, made_by="0.1.0"))
    message = refused(tmp_path, pack_bundle(models[:1], material()[1], made_by="0.1.0"))
    assert "has no landmarks in fp32" in message


def test_a_model_named_twice_is_refused(tmp_path: Path) -> None:
    models, files = material()
    assert "lists a model twice" in refused(tmp_path, pack_bundle([*models, models[0]], files, made_by="0.1.0"))


def test_another_models_spec_is_refused(tmp_path: Path) -> None:
    models, files = material()
    files["specs/landmarks.json"] = SPECS["detector"].to_json().encode()
    message = refused(tmp_path, pack_bundle(models, files, made_by="0.1.0"))
    assert "describes a model for detector, expected landmarks" in message
    files["specs/landmarks.json"] = replace(SPECS["landmarks"], version=99).to_json().encode()
    assert "spec version 99" in refused(tmp_path, pack_bundle(models, files, made_by="0.1.0"))


@pytest.mark.parametrize(
    "spec", ["[" * 100_000, "[]", "{}", '{"version": Infinity}', '{"version": 1.5}', '{"version": 0}']
)
def test_a_spec_that_is_none_is_refused(spec: str, tmp_path: Path) -> None:
    models, files = material()
    files["specs/landmarks.json"] = spec.encode()
    message = refused(tmp_path, pack_bundle(models, files, made_by="0.1.0"))
    assert "specs/landmarks.json: its model spec cannot be read" in message


def test_a_spec_with_a_size_without_end_is_refused() -> None:
    text = SPECS["landmarks"].to_json().replace("[32, 32]", "[Infinity, 32]")
    with pytest.raises(ModelError, match="cannot be read"):
        ModelSpec.from_json(text, origin="a model")


def test_nothing_is_inflated(tmp_path: Path) -> None:
    bomb = with_member("bomb", bytes(10_000_000), compress_type=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    assert "bomb is compressed or encrypted" in refused(tmp_path, bomb)
    assert "bomb is compressed or encrypted" in refused(tmp_path, with_member("bomb", compress_type=zipfile.ZIP_LZMA))


def test_members_over_one_another_are_refused(tmp_path: Path) -> None:
    """Many entries of the directory that point to the same bytes: small file, large content."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a", bytes(1_000_000))
        first = archive.infolist()[0]
        for i in range(50):
            info = zipfile.ZipInfo(f"b{i}")
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(info, field, getattr(first, field))
            archive.filelist.append(info)
    assert "claim to be larger than the file" in refused(tmp_path, target.getvalue())


def test_too_many_members_and_too_large_a_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, files = material()
    files |= {f"more/{i}": b"" for i in range(300)}
    assert "at most 256" in refused(tmp_path, pack_bundle(models, files, made_by="0.1.0"))
    monkeypatch.setattr(bundles, "MAX_BYTES", 1000)
    assert "larger than 1000 bytes" in refused(tmp_path, packed())


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="no /dev/zero here")
def test_what_has_no_end_is_not_read() -> None:
    with pytest.raises(InputError, match="is a pipe or a device, expected a bundle; mien bundle"):
        read_bundle(Path("/dev/zero"))


def test_a_directory_of_any_size_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, files = material()
    many = pack_bundle(models, files | {f"more/{i}": b"" for i in range(2000)}, made_by="0.1.0")
    large = pack_bundle(models, files | {"x" * 60_000: b"", "y" * 60_000: b""}, made_by="0.1.0")
    whole = packed()
    beyond = whole[:-22] + b"PK\6\7" + bytes(16) + whole[-22:]  # where a zip64 archive would tell another size

    def never(*_: object) -> None:
        raise AssertionError("the archive was opened")

    monkeypatch.setattr(bundles.zipfile, "ZipFile", never)
    for data in (many, large):
        assert "at most 256 members" in refused(tmp_path, data)
    for data in (beyond, whole + b"comment"):
        assert "its end is missing" in refused(tmp_path, data)


def test_a_manifest_of_any_size_is_refused(tmp_path: Path) -> None:
    assert "manifest.json is missing or invalid (ValueError" in refused(tmp_path, with_manifest(more="x" * 2_000_000))


@pytest.mark.parametrize(
    "bad",
    [
        b"no array",
        npy(np.zeros((3, 2, 2, 3), np.float32)),
        npy(np.zeros((0, 2, 2, 3), np.uint8)),
        npy(np.zeros((3, 2, 2, 3), np.uint8))[:-1],
        npy(np.zeros((3, 2, 2, 3), np.uint8)).replace(b"(3, 2, 2, 3)", b"(9, 2, 2, 3)"),
        npy(np.asfortranarray(np.zeros((3, 2, 2, 3), np.uint8))),
        npy(np.array(1, np.uint8)),
        with_header("{'descr': ("),
        with_header("{[]: 1}"),
        with_header("(" * 3000 + ")" * 3000),
        with_header("{'descr': '<f1', 'fortran_order': False, 'shape': (3,), }"),
        with_header("{'descr': (), 'fortran_order': False, 'shape': (3,), }"),
        with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (999999999, 999999999), }"),
    ],
)
def test_golden_samples_that_are_no_pictures_are_refused(bad: bytes, tmp_path: Path) -> None:
    models, files = material()
    files[golden_file("landmarks", "image")] = bad
    path = tmp_path / "face.mien"
    path.write_bytes(pack_bundle(models, files, made_by="0.1.0"))
    with pytest.raises(ModelError, match=r"golden/landmarks/image\.npy"):
        read_bundle(path).golden("landmarks")


def test_golden_outputs_need_a_row_an_input(tmp_path: Path) -> None:
    models, files = material()
    path = tmp_path / "face.mien"
    for outputs, message in (
        (np.zeros(2, np.float32), "one row per input"),
        (np.array(1, np.float32), "is not an array"),
    ):
        files[golden_file("landmarks", "presence")] = npy(outputs)
        path.write_bytes(pack_bundle(models, files, made_by="0.1.0"))
        with pytest.raises(ModelError, match=message):
            read_bundle(path).golden("landmarks")


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        (PICTURE, np.zeros((4, 4), np.uint8)),
        (PICTURE, np.zeros((4, 4, 3))),
        (PICTURE, np.zeros((0, 4, 3), np.uint8)),
        (FACES, np.zeros((2, 5, 3))),
        (FACES, np.zeros((0, 68, 3))),
        (FACES, np.zeros((2, 68, 3), np.int64)),
    ],
)
def test_a_golden_picture_that_is_none_is_refused(name: str, bad: np.ndarray, tmp_path: Path) -> None:
    models, files = material()
    path = tmp_path / "face.mien"
    path.write_bytes(pack_bundle(models, files | {name: npy(bad)}, made_by="0.1.0"))
    with pytest.raises(ModelError, match=name):
        read_bundle(path).picture()


def test_a_pipeline_loads_from_a_bundle(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from mien.tests.fakes.own_models import own_models_of, write_own_model

    path = tmp_path / "face.mien"
    models, files = material()
    own = {name: write_own_model(tmp_path / f"{name}.onnx", name) for name in SPECS}
    for name, model in own.items():
        spec = ModelFile.of(model).metadata
        assert spec is not None
        files |= {f"models/{name}.fp32.onnx": model.read_bytes(), f"specs/{name}.json": spec.to_json().encode()}
    path.write_bytes(pack_bundle(models, files, made_by="0.1.0"))
    picture = read_image(find_photo()[0])
    with Pipeline.load(provider=Provider.CPU, precision=Precision.FP32) as pipeline:
        (usual,) = face_rows(pipeline(picture), size_of(picture))
    with Pipeline.load(bundle=path, provider=Provider.CPU) as pipeline:
        (face,) = face_rows(pipeline(picture), size_of(picture))
    assert face["age"] is None and own_models_of(face | {"age": usual["age"]}, usual) == set(own)
    packed = pack_pipeline(PipelineOptions(bundle=path), max_side=640)
    assert packed.models == {name: model.read_bytes() for name, model in own.items()}
    with open_packed_pipeline(packed) as pipeline:
        assert face_rows(pipeline(picture), size_of(picture)) == [face]
    done = CliRunner().invoke(app, ["predict", str(find_photo()[0]), "--bundle", str(path), "--json", "-"])
    assert json.loads(done.stdout.splitlines()[0])["faces"] == [face]
    with pytest.raises(InputError, match="pass either"):
        Pipeline.load(bundle=path, model=shipped_model("landmarks"))
    with pytest.raises(InputError, match="no fp16 models"):
        Pipeline.load(bundle=path, precision=Precision.FP16)
