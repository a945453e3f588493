"""The default name of a producer: the same for the same content and for nothing else."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta, timezone

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from millrace._batches import Source
from millrace._content import hash_rows, hash_table
from millrace.errors import InvalidInput

TABLE = pa.table(
    {
        "id": pa.array(["a", None, "", "ccc"], pa.string()),
        "n": pa.array([1, None, 3, -4], pa.int64()),
        "x": pa.array([0.5, -0.0, None, 1e300], pa.float64()),
        "b": pa.array([True, None, False, True], pa.bool_()),
        "raw": pa.array([b"\0", None, b"", b"zz"], pa.binary()),
        "at": pa.array([1, 2, None, 4], pa.timestamp("us", "UTC")),
        "l": pa.array([[1], None, [], [2, 3]], pa.list_(pa.int64())),
        "none": pa.nulls(4),
    }
)


def test_how_a_table_lies_in_memory_has_no_part_in_its_hash() -> None:
    whole = hash_table(TABLE)
    cut = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 2), TABLE.slice(3)])
    assert hash_table(cut) == whole
    assert hash_table(pa.concat_tables([TABLE, TABLE]).slice(4)) == whole
    # Other bytes under a NULL.
    validity = TABLE["n"].chunk(0).buffers()[0]
    values = pa.py_buffer(struct.pack("<4q", 1, 99, 3, -4))
    hidden = pa.Array.from_buffers(pa.int64(), 4, [validity, values])
    changed = TABLE.set_column(1, "n", hidden)
    assert changed.equals(TABLE)
    assert hash_table(changed) == whole
    for form in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        column = TABLE["id"].combine_chunks()
        column = column.dictionary_encode() if pa.types.is_dictionary(form) else column.cast(form)
        assert hash_table(TABLE.set_column(0, "id", column)) == whole, form


def test_what_a_table_says_has() -> None:
    tables = [TABLE, TABLE.slice(0, 3), TABLE.rename_columns([*TABLE.schema.names[:-1], "other"])]
    for index, changed in [
        (0, pa.array(["a", "", None, "ccc"], pa.string())),
        (0, pa.array(["a", None, "c", "cc"], pa.string())),
        (0, pa.array([b"a", None, b"", b"ccc"], pa.binary())),
        (1, pa.array([1, 0, 3, -4], pa.int64())),
        (1, pa.array([1, None, 3, -4], pa.int32())),
        (2, pa.array([0.5, 0.0, None, 1e300], pa.float64())),
        (3, pa.array([True, None, False, False], pa.bool_())),
        (6, pa.array([[1], None, [], [2, 4]], pa.list_(pa.int64()))),
    ]:
        tables.append(TABLE.set_column(index, TABLE.schema.names[index], changed))
    assert len({hash_table(table) for table in tables}) == len(tables)


def test_records_are_told_apart_by_names_types_and_values() -> None:
    at = datetime(2024, 3, 1, tzinfo=timezone.utc)
    rows: list[list[dict[str, object]]] = [
        [{"a": 1}],
        [{"a": 1}, {"a": 1}],
        [{"a": 1.0}],
        [{"a": True}],
        [{"a": "1"}],
        [{"a": b"1"}],
        [{"a": None}],
        [{"b": 1}],
        [{"a": at}],
        [{"a": 1, "b": 2}],
        [{"a": 1}, {"b": 2}],
    ]
    assert len({hash_rows(each) for each in rows}) == len(rows)
    assert hash_rows([{"a": 1, "b": 2}]) == hash_rows([{"b": 2, "a": 1}])
    elsewhere = at.astimezone(timezone(timedelta(hours=2)))
    assert hash_rows([{"a": at}]) == hash_rows([{"a": elsewhere}])


def name(rows: object, stream: str = "clicks", first_sequence: int = 0) -> str:
    return Source(stream, rows, producer=None, first_sequence=first_sequence).producer


def test_a_producer_is_named_after_stream_numbers_and_content() -> None:
    frame = pd.DataFrame({"user": [1, 2], "item": ["a", "b"]})
    assert name(frame) == name(frame.set_index(pd.Index([7, 8])))
    assert name(frame) == name(pl.DataFrame({"user": [1, 2], "item": ["a", "b"]}))
    names = {name(frame), name(frame, "views"), name(frame, first_sequence=2), name(frame[:1])}
    assert len(names) == 4
    assert name(frame).startswith("python/clicks/0/")


@pytest.mark.parametrize("rows", [iter([{"a": 1}]), TABLE.to_reader()])
def test_what_is_read_once_needs_a_name(rows: object) -> None:
    with pytest.raises(InvalidInput, match="producer: .* is read once"):
        Source("clicks", rows, producer=None, first_sequence=0)


@pytest.mark.parametrize("rows", [5, "text", {"a": 1}])
def test_what_is_no_rows_is_refused(rows: object) -> None:
    with pytest.raises(InvalidInput, match="rows: .* neither a table nor an iterable of dicts"):
        Source("clicks", rows, producer=None, first_sequence=0)


@pytest.mark.parametrize("row", [[1], {1: 2}, "text"])
def test_a_row_that_is_no_record_is_named(row: object) -> None:
    with pytest.raises(InvalidInput, match="rows: row 1 is .* not a dict by field"):
        name([{"a": 1}, row])
    given = Source("clicks", iter([{"a": 1}, row]), producer="p", first_sequence=0)
    with pytest.raises(InvalidInput, match="rows: row 1 is .* not a dict by field"):
        list(given.batches())
