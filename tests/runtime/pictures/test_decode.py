"""Pictures by their content: formats, frames, orientation, alpha and damage, in files that the tests make."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.runtime.errors import InputError
from mien.runtime.pictures.decode import decode_frames, to_bgr
from mien.runtime.pictures.images import decode_image, encode_image, read_image
from mien.runtime.values import GREY

PIL = pytest.importorskip("PIL.Image")
ORIENTED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}
"""What a viewer shows of the stored pixels (EXIF 2.32, tag 274)."""
animations = pytest.mark.skipif(not hasattr(cv2, "imdecodeanimation"), reason="OpenCV 4.11 reads animations")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Smooth noise, BGR, no side of which is like another."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3))


def encoded(pixels: np.ndarray | list[np.ndarray], form: str, *, mode: str = "RGB", **options: Any) -> bytes:
    """Encode BGR pixels, or a list of them as the frames of an animation."""
    pictures = pixels if isinstance(pixels, list) else [pixels]
    frames = [PIL.fromarray(p[..., ::-1].copy()).convert(mode) for p in pictures]
    if len(frames) > 1:
        options |= {"save_all": True, "append_images": frames[1:]}
    file = io.BytesIO()
    frames[0].save(file, form, **options)
    return file.getvalue()


def opencv(pixels: np.ndarray, suffix: str, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, pixels, options)[1].tobytes())


def told(data: bytes) -> str:
    with pytest.raises(InputError) as error:
        list(decode_frames(data, name="a.jpg"))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize(("form", "tolerance"), [("JPEG", 3), ("PNG", 0), ("WEBP", 0), ("TIFF", 0), ("AVIF", 4)])
def test_every_picture_is_turned_upright(pixels: np.ndarray, form: str, tolerance: int, orientation: int) -> None:
    if form == "AVIF" and not cv2.haveImageWriter(".avif"):
        pytest.skip("this OpenCV has no AVIF")
    options: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    if form == "TIFF":
        options["tiffinfo"] = {274: orientation}
    else:
        options["exif"] = PIL.Exif()
        options["exif"][274] = orientation
    if form == "AVIF":
        options |= {"quality": 100, "subsampling": "4:4:4"}
    found = decode_image(encoded(pixels, form, **options), name="a")
    wanted = ORIENTED[orientation](pixels)
    assert found.shape == wanted.shape and np.abs(found.astype(int) - wanted).mean() <= tolerance


@pytest.mark.parametrize("form", [".png", ".webp", ".tif"])
def test_transparent_pixels_are_composed_over_grey(pixels: np.ndarray, form: str) -> None:
    alpha = np.tile(np.linspace(0, 255, pixels.shape[1]).astype(np.uint8), (pixels.shape[0], 1))
    found = decode_image(opencv(np.dstack([pixels, alpha]), form, cv2.IMWRITE_WEBP_QUALITY, 101), name="a")
    share = alpha[..., None] / 255
    assert np.abs(found - (pixels * share + np.array(GREY) * (1 - share))).max() <= 1
    hidden = decode_image(opencv(np.dstack([pixels, np.zeros_like(alpha)]), form), name="a")
    assert (hidden == GREY).all()


def test_unassociated_alpha_of_a_tiff_file_counts_once(pixels: np.ndarray) -> None:
    picture = PIL.fromarray(pixels[..., ::-1].copy())
    picture.putalpha(100)
    file = io.BytesIO()
    picture.save(file, "TIFF")
    wanted = pixels * (100 / 255) + np.array(GREY) * (155 / 255)
    assert np.abs(decode_image(file.getvalue(), name="a") - wanted).max() <= 2


def test_colours_brighter_than_their_alpha_do_not_wrap_around() -> None:
    picture = np.full((4, 5, 4), (200, 180, 30, 100), np.uint8)  # straight alpha that the file calls premultiplied
    assert (to_bgr(picture, premultiplied=True) == to_bgr(np.minimum(picture, 100), premultiplied=True)).all()
    lightest = (100 * 255 + np.array(GREY) * 155 + 127) // 255
    assert (to_bgr(picture, premultiplied=True)[..., :2] == lightest[:2]).all()


def test_every_depth_and_colour_space_becomes_bgr(pixels: np.ndarray) -> None:
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    deep = (pixels.astype(np.uint16) << 8) | 77
    assert (decode_image(opencv(deep, ".png"), name="a") == pixels).all()
    assert (decode_image(opencv(grey, ".png"), name="a") == grey[..., None]).all()
    for form, mode in (("PNG", "LA"), ("PNG", "P"), ("PNG", "1"), ("JPEG", "CMYK"), ("TIFF", "CMYK"), ("BMP", "P")):
        found = decode_image(encoded(pixels, form, mode=mode), name=f"{form} {mode}")
        assert found.shape == pixels.shape and found.dtype == np.uint8
        if mode == "CMYK":
            assert np.abs(found.astype(int) - pixels).mean() < 4


@animations
@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_all_frames_and_pages_are_read_and_numbered(pixels: np.ndarray, form: str) -> None:
    shades = [np.full_like(pixels, 5 * n) for n in range(40)]  # more than are decoded at once
    options: dict[str, Any] = {} if form == "TIFF" else {"duration": 70}
    if form == "WEBP":
        options["lossless"] = True
    frames = list(decode_frames(encoded(shades, form, **options), name="a"))
    assert [f.index for f in frames] == list(range(40))
    assert all(np.abs(f.pixels.astype(int) - shade).max() <= 2 for f, shade in zip(frames, shades, strict=True))
    assert {f.duration_ms for f in frames} == {None if form == "TIFF" else 70}
    (one,) = decode_frames(encoded(pixels, form), name="a")
    assert one.index is None


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_old_opencv_says_what_reads_an_animation(
    pixels: np.ndarray, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded([pixels, pixels[::-1]], form, duration=70)
    monkeypatch.delattr(cv2, "imdecodeanimation", raising=False)
    assert [f.index for f in decode_frames(data, name="a")] == [0, 1]  # with Pillow
    without(monkeypatch, "PIL")
    assert "run: pip install pillow-heif" in told(data)


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let the import of a package fail."""
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)


def test_heic_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pillow_heif")
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    assert told(data).startswith("a.jpg holds a HEIC picture, which OpenCV ") and "pip install pillow-heif" in told(
        data
    )


def test_heic_is_read_with_pillow_heif(pixels: np.ndarray) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    found = decode_image(encoded(pixels, "HEIF", quality=100), name="a")
    assert found.shape == pixels.shape and np.abs(found.astype(int) - pixels).mean() < 6


def test_damaged_pictures_are_named(pixels: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)  # as the command line does
    pixels = cv2.resize(pixels, None, fx=6, fy=6)
    for suffix, options in ((".jpg", ()), (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)), (".png", ()), (".bmp", ())):
        whole = opencv(pixels, suffix, *options)
        assert (decode_image(whole, name="a") is not None) and "damaged" in told(whole[: len(whole) * 2 // 3])
        if suffix != ".bmp":
            middle = len(whole) // 2
            assert "damaged" in told(whole[:middle] + bytes(500) + whole[middle + 500 :])
    webp, gif, tiff = (encoded(pixels, form) for form in ("WEBP", "GIF", "TIFF"))
    assert all("damaged" in told(data[: len(data) * 2 // 3]) for data in (webp, gif, tiff))
    if hasattr(cv2.utils, "logging"):  # OpenCV 4.8 prints some of its errors whatever is asked of it
        assert capfd.readouterr().err == ""


@animations
def test_frames_before_the_damage_are_read(pixels: np.ndarray) -> None:
    data = encoded([pixels, pixels, pixels], "TIFF")
    frames = decode_frames(data[: len(data) * 5 // 6], name="a")
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(InputError, match="2 of its 3 frames can be decoded"):
        next(frames)


def test_the_checksums_of_a_png_file_count(pixels: np.ndarray) -> None:
    data = bytearray(opencv(pixels, ".png"))
    at = data.index(b"IDAT") + 4 + struct.unpack(">I", data[data.index(b"IDAT") - 4 : data.index(b"IDAT")])[0]
    data[at] ^= 1
    assert "the checksum of its IDAT chunk is wrong" in told(bytes(data))
    note = b"tEXtnote"
    wrong = struct.pack(">I", 4) + note + struct.pack(">I", zlib.crc32(note) ^ 1)
    whole = opencv(pixels, ".png")
    assert (decode_image(whole[:33] + wrong + whole[33:], name="a") == pixels).all()  # an optional chunk


def test_zeros_before_the_end_of_a_jpeg_file_are_no_damage(pixels: np.ndarray) -> None:
    data = opencv(pixels, ".jpg")
    found = decode_image(data[:-2] + bytes(9) + data[-2:] + b"a trailer of the camera", name="a")
    assert (found == decode_image(data, name="a")).all()
    assert "extraneous bytes" in told(data[:-2] + b"abcdefghi" + data[-2:])


@pytest.mark.parametrize("form", ["JPEG", "GIF", "PNG"])
def test_what_follows_the_end_of_a_picture_does_not_matter(pixels: np.ndarray, form: str) -> None:
    whole = encoded(pixels, form)
    video = b"\0\0\0\x18ftypmp42 \xff\xda" + np.random.default_rng(1).bytes(5000).replace(b"\xd9", b"")
    for appended in (video, b"\r\n", b"\xff\xff\xff"):
        assert (decode_image(whole + appended, name="a") == decode_image(whole, name="a")).all()
        assert "damaged" in told(whole[: len(whole) * 2 // 3] + appended)


def test_a_gif_file_ends_with_its_trailer_alone(pixels: np.ndarray) -> None:
    whole = encoded(pixels, "GIF")
    assert "its end is missing" in told(whole[:-2] + b";;")  # within a block that is longer
    assert all("damaged" in told(whole[:cut]) for cut in (8, 13, len(whole) // 2, len(whole) - 1))


def test_a_forged_offset_is_damage_in_tiff_and_no_orientation_in_png(pixels: np.ndarray) -> None:
    far = struct.pack("<Q", 2**63 + 5)
    assert "damaged" in told(b"II+\0\x08\0\0\0" + far + bytes(64))
    body = b"eXIf" + b"II+\0\x08\0\0\0" + far
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    whole = opencv(pixels, ".png")
    assert (decode_image(whole[:33] + chunk + whole[33:], name="a") == pixels).all()


def test_damage_is_told_of_the_right_picture_in_every_thread(pixels: np.ndarray) -> None:
    whole = opencv(cv2.resize(pixels, None, fx=6, fy=6), ".jpg")
    broken = whole[: len(whole) // 2] + bytes(500) + whole[len(whole) // 2 + 500 :]

    def is_whole(number: int) -> bool:
        try:
            decode_image(broken if number % 2 else whole, name="a")
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(is_whole, range(60))) == [True, False] * 30


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "nothing"),
        (b"just words\n" * 40, "text"),
        ("Größe\n".encode("latin-1"), "text"),
        (b"<!DOCTYPE html>\n<html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "a video"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        ((b"G" + bytes(187)) * 4, "a video"),
        (b"\x08\x08\x12\x07pytorch", "an ONNX model"),
        (b"PK\x03\x04" + bytes(26) + b"best/data.pkl", "a checkpoint"),
        (b"\x80\x02}q\0.", "a checkpoint"),
        (b"%PDF-1.7", "a PDF document"),
        (bytes(200), "no known kind"),
    ],
)
def test_what_is_no_picture_is_said(data: bytes, kind: str) -> None:
    assert told(data).startswith("a.jpg is not a picture: it holds ") and kind in told(data)


def tiff_with(pixels: np.ndarray, tag: int, kind: int, value: object) -> bytes:
    tags = pytest.importorskip("PIL.TiffImagePlugin").ImageFileDirectory_v2()
    tags.tagtype[tag] = kind
    tags[tag] = value
    return encoded(pixels, "TIFF", tiffinfo=tags)


def test_the_thumbnail_of_a_raw_picture_is_not_taken_for_it(pixels: np.ndarray) -> None:
    dng, nef = tiff_with(pixels, 50706, 1, b"\1\4\0\0"), tiff_with(pixels, 254, 4, 1)
    signatures = (b"II*\0\x10\0\0\0CR\2\0", b"FUJIFILMCCD-RAW 0201", b"\0\0\0\x18ftypcrx \0\0\0\1crx ", b"IIU\0")
    for data in (dng, nef, *(signature + bytes(90) for signature in signatures)):
        assert "holds a camera's raw picture" in told(data)
    page = tiff_with(pixels, 254, 4, 2)  # one of several, at full size
    assert (decode_image(page, name="a") == pixels).all()


@pytest.mark.skipif(cv2.haveImageWriter(".jxl"), reason="this OpenCV reads JPEG XL")
def test_a_format_without_a_decoder_names_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pillow_jxl")
    for data in (b"\xff\x0a\xfa\x1f", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl "):
        assert "a JPEG XL picture" in told(data) and "pip install pillow-jxl-plugin" in told(data)


def test_a_variant_that_opencv_lacks_is_not_called_damaged(pixels: np.ndarray) -> None:
    data = bytearray(encoded(pixels, "TIFF"))
    at = bytes(data).index(b"\x03\x01\x03\x00\x01\x00\x00\x00")  # Compression, one SHORT
    data[at + 8 : at + 10] = (34925).to_bytes(2, "little")  # LZMA
    assert "or a TIFF picture of a variant that OpenCV" in told(bytes(data))


def test_a_name_is_only_a_name(pixels: np.ndarray, tmp_path: Path) -> None:
    data = opencv(pixels, ".png")
    for name in (b"none", b"a.mp4", b"12:30.jpg", b"\xff\xfe.jpg", b"-", b"-x.png", b"a\nb.png", b"n" * 251 + b".png"):
        path = tmp_path / Path(name.decode(errors="surrogateescape"))
        path.write_bytes(data)
        assert (read_image(path) == pixels).all()
    for path, reason in ((tmp_path, "is a folder"), (tmp_path / ("n" * 300), "too long"), (tmp_path / "no", "no file")):
        with pytest.raises(InputError, match=reason):
            read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".webp"])
def test_opencv_does_not_warn_of_what_it_is_told(
    pixels: np.ndarray, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    logs: Any = getattr(cv2.utils, "logging", cv2)
    level = logs.setLogLevel(3)  # warnings
    try:
        small, large = (len(encode_image(pixels, suffix=suffix, quality=quality)) for quality in (10, 90))
    finally:
        logs.setLogLevel(level)
    assert capfd.readouterr().err == "" and (small < large or suffix == ".png")
