"""A hash of rows that depends on nothing but what they say: the default name of a producer."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from ._instants import micros

#: Rows are hashed in blocks of so many, however a table is cut into batches.
BLOCK_ROWS = 65_536


def hash_table(table: pa.Table) -> str:
    """The hash of a table's columns, in their order: names, types and values.

    What stands in memory under a NULL, how the table is cut, and which of Arrow's forms of text
    it uses has no part in it.
    """
    digest = hashlib.sha256(b"arrow")
    for start in range(0, max(table.num_rows, 1), BLOCK_ROWS):
        block = table.slice(start, BLOCK_ROWS)
        for name, column in zip(block.schema.names, block.columns):
            _feed_text(digest, name)
            _feed_column(digest, _whole(column))
    return digest.hexdigest()


def hash_rows(rows: Iterable[Mapping[str, object]]) -> str:
    """The hash of records: the names, types and values of their fields."""
    digest = hashlib.sha256(b"rows")
    for row in rows:
        digest.update(_count(len(row)))
        for name in sorted(row):
            _feed_text(digest, name)
            _feed_text(digest, _text_of(name, row[name]))
    return digest.hexdigest()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    # Views have few functions of their own.
    if whole.type == pa.string_view():
        return whole.cast(pa.large_string())
    return whole.cast(pa.large_binary()) if whole.type == pa.binary_view() else whole


def _feed_column(digest: Any, column: pa.Array) -> None:
    digest.update(_count(len(column)))
    digest.update(_fixed(column.is_valid().cast(pa.uint8()), 1))
    present, kind = column.drop_null(), column.type
    family = _text_family(kind)
    _feed_text(digest, family or str(kind))
    if family is not None:
        _feed_texts(digest, present.cast(pa.large_binary()))
    elif pa.types.is_boolean(kind):
        digest.update(_fixed(present.cast(pa.uint8()), 1))
    elif pa.types.is_primitive(kind):
        digest.update(_fixed(present, kind.bit_width // 8))
    else:
        _feed_text(digest, repr(present.to_pylist()))


def _text_family(kind: pa.DataType) -> str | None:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "string"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "binary"
    return None


def _fixed(array: pa.Array, width: int) -> bytes:
    """The values of an array without NULLs, which take `width` bytes each."""
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return b""
    start = array.offset * width
    return bytes(buffer[start : start + len(array) * width])


def _feed_texts(digest: Any, array: pa.LargeBinaryArray) -> None:
    """Feeds the length of each value, then all of them."""
    if len(array) == 0:
        return
    _, offsets, data = array.buffers()
    span = memoryview(offsets).cast("B")[array.offset * 8 : (array.offset + len(array) + 1) * 8]
    places = span.cast("q")
    # Where they begin is an accident, so each is told from there.
    digest.update(struct.pack(f"<{len(places)}q", *(place - places[0] for place in places)))
    if data is not None:
        digest.update(memoryview(data)[places[0] : places[-1]])


def _text_of(name: str, value: object) -> str:
    if isinstance(value, datetime):
        return f"timestamp {micros(value, name)}"
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return f"int {value.__index__()}"
    return f"{type(value).__name__} {value!r}"


def _feed_text(digest: Any, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    digest.update(_count(len(data)))
    digest.update(data)


def _count(number: int) -> bytes:
    return struct.pack("<q", number)
