from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path

import pytest

from mien.runtime.atomic_file import AtomicFile, LineFile, temporary_folder, write_atomic
from mien.runtime.errors import OutputError


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    with pytest.raises(ZeroDivisionError), AtomicFile(path) as file:
        file.handle.write(b"half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    write_atomic(path, b"first")
    path.chmod(0o640)
    with pytest.raises(ZeroDivisionError), AtomicFile(path) as file:
        file.handle.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"first"
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second" and path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_its_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flushed = tmp_path / "rows.json", []

    def flush(descriptor: int) -> None:
        flushed.append((os.fstat(descriptor).st_size, path.exists()))
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", flush)
    error = errno.EINVAL  # a file system that cannot do it
    write_atomic(path, b"first")
    error = errno.EDQUOT  # which some report only now
    with pytest.raises(OSError, match="quota"):
        write_atomic(path, b"second")
    assert flushed == [(5, False), (6, True)]
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


def test_a_private_file_stays_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    write_atomic(path, b"first")
    path.chmod(0o600)
    with AtomicFile(path) as file:
        assert file.temporary.stat().st_mode & 0o777 == 0o600

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)  # as on vfat
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    write_atomic(path, b"first")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"second")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


def test_a_full_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as folder:
        (folder / "a").write_text("intermediate")
        assert folder.parent == tmp_path
    assert not list(tmp_path.iterdir())
    full = f"cannot write temporary files in {tmp_path} (No space left on device); free some space, or set TMPDIR"
    with pytest.raises(OutputError, match=re.escape(full)), temporary_folder():
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError, match="photo"), temporary_folder():
        Path("photo.jpg").read_bytes()  # of another file
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match=r"in .*gone \(No such file"), temporary_folder():
        pass


def test_links_devices_and_long_names(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomic(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    write_atomic(Path(os.devnull), b"nothing")
    assert Path(os.devnull).is_char_device()
    write_atomic(tmp_path / ("n" * 250 + ".json"), b"long")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "later")
    write_atomic(dangling, b"made")
    assert (tmp_path / "later").read_bytes() == b"made"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="descriptors have no names here")
def test_what_an_open_descriptor_leads_to_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    with log.open("ab") as file:
        names = [Path(f"{folder}/{file.fileno()}") for folder in ("/dev/fd", "/proc/self/fd")]
        for name in names:
            write_atomic(name, b"row\n")
        lines = LineFile(names[0], keep=True)
        lines.write("last\n")
        lines._cut_off()  # as on a full disk
    assert log.read_text() == "before\nrow\nrow\nlast\n"
