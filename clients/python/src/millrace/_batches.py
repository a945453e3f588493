"""Cuts what is published into requests that fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from ._content import hash_rows, hash_table
from ._frames import encoded, is_columnar, is_once, plain, reader
from ._values import typed_row
from ._window import Batch
from .errors import InvalidInput
from .v1 import fact_pb2, ingest_pb2

#: Facts of a request; the protocol's limit is 65,536, and smaller ones keep credits moving.
FACTS_MAX = 16_384
#: Bytes of facts of a request; a server takes 4 MiB.
BYTES_MAX = 1024 * 1024


class Source:
    """Rows of a stream, numbered, and the name of who numbered them."""

    def __init__(
        self, stream: str, rows: object, *, producer: str | None, first_sequence: int
    ) -> None:
        """Reads what has to be hashed, which is nothing if `producer` is given.

        Raises InvalidInput for what is no rows, and where rows without a producer can be read
        only once.
        """
        if not stream:
            raise InvalidInput("stream", "must not be empty")
        if not 0 <= first_sequence < 2**63:
            raise InvalidInput("first_sequence", "must be from 0 up to 2^63")
        if producer is None and is_once(rows):
            raise InvalidInput(
                "producer",
                f"a {type(rows).__name__} is read once and cannot be hashed first: give an id "
                "used for this content only",
            )
        #: The stream.
        self.stream = stream
        #: The sequence of the first row.
        self.first_sequence = first_sequence
        self._table: pa.RecordBatchReader | None = None
        self._records: Iterable[Mapping[str, object]] = ()
        if is_columnar(rows):
            whole = rows if producer else reader(rows, "rows").read_all()
            content = "" if producer else hash_table(whole)
            self._table = reader(whole, "rows")
        elif isinstance(rows, Iterable) and not isinstance(rows, (str, bytes, Mapping)):
            content = "" if producer else hash_rows(_checked(rows))
            self._records = rows
        else:
            raise InvalidInput(
                "rows", f"a {type(rows).__name__} is neither a table nor an iterable of dicts"
            )
        #: Who numbered them.
        self.producer = producer or f"python/{stream}/{first_sequence}/{content}"
        if len(self.producer.encode()) > 256:
            raise InvalidInput("producer", "must be at most 256 bytes")

    def batches(self) -> Iterator[Batch]:
        """The requests, and behind them one that says that no more comes for now."""
        sequence = self.first_sequence
        parts = self._arrow() if self._table is not None else self._typed()
        for facts, request, schema in parts:
            request.first_sequence = sequence
            sequence += facts
            request.next_sequence = sequence
            yield Batch(request, schema, facts)
        farewell = self._request(idle=True, first_sequence=sequence, next_sequence=sequence)
        yield Batch(farewell, b"", 0)

    def _arrow(self) -> Iterator[tuple[int, ingest_pb2.PublishRequest, bytes]]:
        for whole in self._table or ():
            batch = plain(whole)
            schema = batch.schema.remove_metadata().serialize().to_pybytes()
            for part, message in encoded(batch, FACTS_MAX, BYTES_MAX):
                if part.num_rows:
                    yield part.num_rows, self._request(arrow_ipc=message), schema

    def _typed(self) -> Iterator[tuple[int, ingest_pb2.PublishRequest, bytes]]:
        rows: list[fact_pb2.TypedRow] = []
        size = 0
        for record in _checked(self._records):
            row = typed_row(record)
            if rows and (len(rows) == FACTS_MAX or size + row.ByteSize() > BYTES_MAX):
                yield len(rows), self._request(rows=rows), b""
                rows, size = [], 0
            rows.append(row)
            size += row.ByteSize()
        if rows:
            yield len(rows), self._request(rows=rows), b""

    def _request(
        self,
        *,
        first_sequence: int = 0,
        next_sequence: int = 0,
        arrow_ipc: bytes = b"",
        rows: Iterable[fact_pb2.TypedRow] = (),
        idle: bool = False,
    ) -> ingest_pb2.PublishRequest:
        return ingest_pb2.PublishRequest(
            producer_id=self.producer,
            stream=self.stream,
            first_sequence=first_sequence,
            next_sequence=next_sequence,
            arrow_ipc=arrow_ipc,
            rows=rows,
            idle=idle,
        )


def _checked(rows: Iterable[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
            raise InvalidInput("rows", f"row {number} is {row!r}, and not a dict by field")
        yield row
