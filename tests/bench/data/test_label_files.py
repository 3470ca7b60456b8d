"""Label files as spreadsheets, editors and other systems save them: read, or refused with the row named."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from mien.bench.data.age_gender_labels import read_age_gender
from mien.bench.data.face_boxes import read_faces
from mien.bench.data.label_files import check_files, read_rows
from mien.bench.data.landmark_labels import read_landmarks
from mien.runtime.errors import InputError

PLAIN = 'file,age,gender\na.jpg,20,male\n"b, c.jpg",30,female\n'
POINTS = [f"{axis}{i}" for i in range(68) for axis in "xy"]
ROWS = [
    {"file": "a.jpg", "age": "20", "gender": "male"},
    {"file": "b, c.jpg", "age": "30", "gender": "female"},
]


@pytest.mark.parametrize(
    "content",
    {
        "plain": PLAIN.encode(),
        "byte order mark": codecs.BOM_UTF8 + PLAIN.encode(),
        "windows": PLAIN.replace("\n", "\r\n").encode(),
        "old mac": PLAIN.replace("\n", "\r").encode(),
        "utf-16": PLAIN.encode("utf-16"),
        "utf-16 big": codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        "utf-16 unmarked": PLAIN.encode("utf-16-le"),
        "blank lines": PLAIN.replace("\n", "\n\n \n,,\n").encode(),
        "blank first": b"\n\n" + PLAIN.encode(),
        "no last line end": PLAIN.strip().encode(),
        "upper-case header": PLAIN.replace("file,age,gender", "File,AGE,Gender").encode(),
        "spaces": b'file, age , gender\na.jpg, 20, male\n"b, c.jpg" , 30 ,female \n',
        "semicolons": b"file;age;gender\na.jpg;20;male\nb, c.jpg;30;female\n",
        "named separator": b"sep=;\r\nfile;age;gender\r\na.jpg;20;male\r\nb, c.jpg;30;female\r\n",
        "tabs": b"file\tage\tgender\na.jpg\t20\tmale\nb, c.jpg\t30\tfemale\n",
        "all quoted": b'"file","age","gender"\n"a.jpg","20","male"\n"b, c.jpg","30","female"\n',
        "empty last column": b'file,age,gender\na.jpg,20,male,\n"b, c.jpg",30,female,,\n',
    }.items(),
    ids=lambda item: item[0],
)
def test_one_table_however_it_is_saved(tmp_path: Path, content: tuple[str, bytes]) -> None:
    (tmp_path / "l.csv").write_bytes(content[1])
    assert [row for _, row in read_rows(tmp_path / "l.csv", ["file", "age", "gender"])] == ROWS


def test_rows_are_named_by_their_line(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("\nfile,age\n\na.jpg,1\n\n\nb.jpg,2\n")
    assert [where for where, _ in read_rows(tmp_path / "l.csv", ["file"])] == [
        f"{tmp_path / 'l.csv'}, row 4",
        f"{tmp_path / 'l.csv'}, row 7",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"l\.csv is empty"),
        (b"\n \n", r"l\.csv is empty"),
        (b"file,age\na.jpg,1\nb\xe4r.jpg,2\n", r"row 3: not UTF-8 text; save the file as UTF-8"),
        (codecs.BOM_UTF8 + b"file,age\nb\xe4r.jpg,2\n", r"row 2: not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", r"l\.csv"),
        (b"PK\x03\x04\xff\xfe\xe4" + bytes(range(256)), r"l\.csv is not a CSV file: it holds a ZIP"),
        (b"file,age\n\x00\x01\x02,3\n" + b"a.jpg,1\n" * 20, r"holds binary data"),
        (b"file|age\na.jpg|1\n", r"missing columns file, age; found file\|age"),
        (b"file,Age,age\na.jpg,1,2\n", r"the column age occurs twice"),
        (b"file,age\na.jpg,1\nb.jpg,2,3\n", r"row 3: expected 2 columns, found 3"),
        (b"file,age\na.jpg\n", r"row 2: expected 2 columns, found 1"),
        (b'file,age\na.jpg,1\n"b.jpg,2\nc.jpg,3\n', r"row 3: a quotation mark is not closed"),
        (b'file,age\na.jpg,1\n"b' + b"x" * 200_000 + b",2\n", r"row 3: not CSV \(field larger"),
    ],
)
def test_what_is_no_table_is_refused_with_its_row(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        list(read_rows(tmp_path / "l.csv", ["file", "age"]))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "header", "read"),
    [
        ("labels.csv", "file,age,gender", read_age_gender),
        ("boxes.csv", "file,x,y,w,h", read_faces),
        (
            "landmarks.csv",
            "file,source,subject," + ",".join(f"{a}{i}" for i in range(68) for a in "xy"),
            read_landmarks,
        ),
    ],
)
def test_a_header_alone_is_refused(tmp_path: Path, name: str, header: str, read: object) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / name).write_text(header + "\n")
    with pytest.raises(InputError, match="has no rows"):
        read(tmp_path)  # type: ignore[operator]


def test_missing_pictures_are_counted_and_the_first_few_named(tmp_path: Path) -> None:
    (tmp_path / "here.jpg").touch()
    files = [tmp_path / f"{name}.jpg" for name in ("here", "a", "b", "c", "d", "x" * 300)]
    with pytest.raises(InputError, match=r"missing 5 labelled images, the first is .*/a\.jpg, b\.jpg, c\.jpg, …$"):
        check_files(files)
    with pytest.raises(InputError, match=r"missing 1 labelled image, the first is .*/a\.jpg$"):
        check_files(files[:2])
