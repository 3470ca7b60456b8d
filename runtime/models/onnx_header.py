"""Reads an ONNX file's metadata and the names of its outputs and weight files, skipping the weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

# Field numbers of ONNX's messages, and the wire types of protobuf's encoding.
GRAPH, METADATA_PROPS = 7, 14  # of ModelProto
OUTPUT = 12  # of GraphProto
NAME = 1  # of ValueInfoProto
KEY, VALUE = 1, 2  # of StringStringEntryProto
MODEL, ENTRY = "model", "entry"
PARTS = {
    MODEL: {GRAPH: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {13: ENTRY},
}
"""Fields of ONNX messages that may contain references to external weights."""
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


def read_header(file: BinaryIO) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the metadata of a model and the names of its outputs.

    Raises:
        ValueError: It is not an ONNX file, or is damaged.
    """
    metadata: dict[str, str] = {}
    outputs: list[str] | None = None
    for number, end in _fields(file, _rewound(file)):
        if number == GRAPH:
            outputs = [_texts(file, stop, NAME)[0] for part, stop in _fields(file, end) if part == OUTPUT]
        elif number == METADATA_PROPS:
            key, value = _texts(file, end, KEY, VALUE)
            metadata[key] = value
    if outputs is None:
        raise ValueError("it has no graph")
    return metadata, tuple(outputs)


def external_files(file: BinaryIO) -> set[str]:
    """Return the names of the files that hold a model's weights, if it does not hold them itself.

    Raises:
        ValueError: It is not an ONNX file, or is damaged.
    """
    return set(_external_files(file, _rewound(file), MODEL))


def _rewound(file: BinaryIO) -> int:
    """Go to the beginning of a file, and return its size in bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def _external_files(file: BinaryIO, end: int, message: str) -> Iterator[str]:
    """Yield the names of the external weight files of an ONNX message, including nested graphs."""
    for number, stop in _fields(file, end):
        part = PARTS[message].get(number)
        if part == ENTRY:
            key, value = _texts(file, stop, KEY, VALUE)
            if key == "location":
                yield value
        elif part is not None:
            yield from _external_files(file, stop, part)


def _texts(file: BinaryIO, end: int, *numbers: int) -> list[str]:
    """Return the text fields of a message with the given numbers; missing ones are empty."""
    found = {number: file.read(stop - file.tell()) for number, stop in _fields(file, end) if number in numbers}
    return [found.get(number, b"").decode() for number in numbers]


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Yield the number and the end of each field of a protobuf message, with `file` at the field's content."""
    while file.tell() < end:
        number, wire_type = divmod(_varint(file), 8)
        if wire_type == VARINT:
            _varint(file)
            length = 0
        elif wire_type == LENGTH_DELIMITED:
            length = _varint(file)
        elif wire_type in (FIXED64, FIXED32):
            length = 8 if wire_type == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type} at byte {file.tell() - 1}")
        stop = file.tell() + length
        if number == 0 or stop > end:
            raise ValueError(f"field {number} ends at byte {stop} of {end}")
        yield number, stop
        file.seek(stop)


def _varint(file: BinaryIO) -> int:
    """Read a base-128 integer, least significant group first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it is cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError(f"a number without end at byte {file.tell()}")
