"""What `Client.training_set` gives: rows of a spine or of events with their features, as Arrow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING

import pyarrow as pa

from ._frames import to_pandas, to_polars
from ._instants import to_datetime
from ._training_call import TrainingCall
from .errors import MillraceError
from .v1 import serving_pb2

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class UnknownHistoryWarning(UserWarning):
    """Rows of a training set with `known_at="at_event"` have facts, but none known by then."""


@dataclass(frozen=True)
class TrainingSummary:
    """What is to be said about a training set as a whole."""

    #: Its rows.
    rows: int
    #: Of how many of these the counts below tell. All, unless a call broke and another one went on.
    counted_rows: int
    #: Rows, once for each view, for whose entity no live fact of it has an `at` up to the row's.
    missing_rows: int
    #: With `known_at="at_event"`: of those, rows that have such facts, but none known by then.
    unknown_rows: int
    #: Facts that were read from the log, those read more than once counted so.
    facts_read: int


class TrainingSet:
    """Rows and their features, read once, as they come.

    The spine's own columns come first, labels too; of events their key, `at` and `id`. Then the
    features, of several views as `VIEW.FEATURE`. What is not read is not held: a server waits for
    its reader. Whoever does not read to the end closes it, or uses it in a `with` statement.
    """

    def __init__(self, call: TrainingCall) -> None:
        header = call.header
        #: Makes the same set again, together with the same question: pass it as `version`. Opaque.
        self.version: str = header.version
        #: The catalog version that it is read under.
        self.catalog_version: int = header.catalog_version
        #: The instant known at, or the greatest `known_at` of the log that is read.
        self.known_at: datetime | None = (
            to_datetime(header.known_at) if header.HasField("known_at") else None
        )
        #: How far event time is complete; None before the first watermark.
        self.watermark: datetime | None = (
            to_datetime(header.watermark) if header.HasField("watermark") else None
        )
        #: The columns of all rows.
        self.schema: pa.Schema = call.schema
        #: What is to be said about it as a whole; None until all rows were read.
        self.summary: TrainingSummary | None = None
        self._call = call
        self._reader: pa.RecordBatchReader | None = None

    @property
    def reader(self) -> pa.RecordBatchReader:
        """The rows as they come, once. Its methods raise MillraceError when the call fails."""
        if self._reader is not None:
            raise MillraceError(
                "a training set is read once: keep the table, or ask again with its version"
            )
        self._reader = pa.RecordBatchReader.from_batches(self.schema, self._batches())
        return self._reader

    def to_arrow(self) -> pa.Table:
        """All rows, in memory. Raises MillraceError when the call fails."""
        return self.reader.read_all()

    def to_pandas(self) -> pd.DataFrame:
        """All rows as a DataFrame of pandas. Raises ImportError without pandas."""
        return to_pandas(self.to_arrow())

    def to_polars(self) -> pl.DataFrame:
        """All rows as a DataFrame of polars. Raises ImportError without polars."""
        return to_polars(self.to_arrow())

    def close(self) -> None:
        """Ends the call. What was not read is not read any more."""
        self._call.close()

    def __enter__(self) -> TrainingSet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # A thread of grpc holds the call, which would wait for ever for somebody to read it.
        if hasattr(self, "_call"):
            self.close()

    def __repr__(self) -> str:
        return f"<TrainingSet of {', '.join(self.schema.names)}>"

    def _batches(self) -> Iterator[pa.RecordBatch]:
        yield from self._call.batches()
        summary, total = self._call.summary, self._call.rows
        self.summary = _summary(summary, total)
        if summary.unknown_rows:
            warnings.warn(
                f"{summary.unknown_rows} of {_counted(summary, total, self._call.views)} have "
                "facts, but none that was known by their own instant: history that was published, "
                "and not imported, is known since it was published; ask with "
                'known_at="latest", or import it',
                UnknownHistoryWarning,
                stacklevel=2,
            )


def _counted(summary: serving_pb2.TrainingSetSummary, total: int, views: int) -> str:
    """The rows among which a summary counts: those of its call, once for each view."""
    rows = f"{summary.rows * views} rows"
    if summary.rows != total:
        rows += " since a call broke"
    return rows if views == 1 else f"{rows}, counted once for each view,"


def _summary(summary: serving_pb2.TrainingSetSummary, total: int) -> TrainingSummary:
    return TrainingSummary(
        rows=total,
        counted_rows=summary.rows,
        missing_rows=summary.missing_rows,
        unknown_rows=summary.unknown_rows,
        facts_read=summary.facts_read,
    )
