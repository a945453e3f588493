"""Tables and frames of any library, as Arrow. pandas and polars are imported when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Raises ImportError, saying what to install, without pandas."""
    _optional("pandas")
    frame: pd.DataFrame = table.to_pandas()
    return frame


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Raises ImportError, saying what to install, without polars."""
    frame: pl.DataFrame = _optional("polars").from_arrow(table)
    return frame


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed: pip install 'millrace[{name}]'") from error


def is_columnar(rows: object) -> bool:
    """Whether it is a table or a frame, and not an iterable of records."""
    arrow = (pa.Table, pa.RecordBatch, pa.RecordBatchReader)
    return (
        isinstance(rows, arrow)
        or _is_frame(rows, "pandas")
        or _is_frame(rows, "polars")
        or hasattr(rows, "__arrow_c_stream__")
    )


def is_once(rows: object) -> bool:
    """Whether its rows can be read only once."""
    return isinstance(rows, (pa.RecordBatchReader, Iterator))


def reader(rows: object, field: str) -> pa.RecordBatchReader:
    """The record batches of a table or frame: pyarrow's, pandas', polars', or any other that
    gives an Arrow stream.

    The index of a pandas frame is left out, and its NaN are NULL. Raises InvalidInput for anything
    else; `field` names it.
    """
    if isinstance(rows, pa.RecordBatchReader):
        return rows
    if isinstance(rows, pa.Table):
        return rows.to_reader()
    if isinstance(rows, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(rows.schema, [rows])
    if _is_frame(rows, "pandas"):
        return pa.Table.from_pandas(rows, preserve_index=False).to_reader()
    if _is_frame(rows, "polars"):
        frame: Any = rows
        return frame.to_arrow().to_reader()
    if hasattr(rows, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(rows)
    raise InvalidInput(
        field,
        f"a {type(rows).__name__} is no table: give a pyarrow Table or RecordBatchReader, or a "
        "DataFrame of pandas or polars",
    )


def _is_frame(rows: object, library: str) -> bool:
    """Whether it is a DataFrame of a library, which need not be there."""
    kind = type(rows)
    return kind.__module__.partition(".")[0] == library and kind.__name__ == "DataFrame"


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same with dictionary-encoded columns, such as pandas' categories, written out."""
    if not any(pa.types.is_dictionary(field.type) for field in batch.schema):
        return batch
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def encoded(
    batch: pa.RecordBatch, rows_max: int, bytes_max: int
) -> Iterator[tuple[pa.RecordBatch, bytes]]:
    """Splits a batch into such that fit a message, each with its Arrow IPC message.

    A single row that is larger goes alone: the server says what it thinks of it.
    """
    rows = batch.num_rows
    # Its size in memory is about that of its message, and costs nothing to know.
    if rows <= 1 or (rows <= rows_max and batch.nbytes <= bytes_max):
        message = batch.serialize().to_pybytes()
        if rows <= 1 or len(message) <= bytes_max:
            yield batch, message
            return
    half = (rows + 1) // 2
    for start in (0, half):
        yield from encoded(batch.slice(start, half), rows_max, bytes_max)
