"""The calls behind a training set: one, and another one for each that broke."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pyarrow as pa

from ._patience import Patience
from ._services import Role, Serving
from ._spine import Spine
from .errors import DeadlineExceeded, InvalidInput, MillraceError, ProtocolError
from .v1 import serving_pb2

#: So many calls in a row may break without a row between them. With the pauses between them that is
#: about half a minute, twice as long as a service that nobody reaches is tried.
ATTEMPTS = 32


class TrainingCall:
    """Reads a training set, and goes on where a call broke."""

    def __init__(
        self,
        role: Role[Serving],
        start: serving_pb2.TrainingSetStart,
        spine: Spine | None,
        *,
        patience: float,
        timeout: float | None,
    ) -> None:
        """Begins the call and reads its header.

        `spine` is None where the rows are events. `patience` bounds in seconds how long failures
        may follow each other, `timeout` the whole of it. Raises MillraceError.
        """
        self._role = role
        self._start = start
        self._spine = spine
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._patience = Patience(patience, deadline=self._deadline, attempts=ATTEMPTS)
        self._call: Any = None
        self._is_closed = False
        #: Rows of the call in progress.
        self._call_rows = 0
        #: Rows of all calls.
        self.rows = 0
        self.summary = serving_pb2.TrainingSetSummary()
        self.header = self._open()
        self._features = _schema(self.header)
        self.schema = self._schema()
        # Whatever comes later is read as of then.
        start.version = self.header.version

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, until the summary. Raises MillraceError."""
        try:
            while True:
                try:
                    yield from self._read()
                    return
                except grpc.RpcError as error:
                    failure = self._failure(error)
                self._patience.wait(failure)
                self._resume()
        finally:
            self.close()

    @property
    def views(self) -> int:
        """How many views are read."""
        return len(self._start.views)

    def close(self) -> None:
        """Ends the call in progress."""
        self._is_closed = True
        if self._call is not None:
            self._call.cancel()

    def _open(self) -> serving_pb2.TrainingSetHeader:
        """Begins a call, as often as it takes, and reads its header."""
        while True:
            try:
                return self._begin()
            except grpc.RpcError as error:
                failure = self._failure(error)
            except BaseException:
                self.close()
                raise
            self._patience.wait(failure)

    def _begin(self) -> serving_pb2.TrainingSetHeader:
        remaining = None
        if self._deadline is not None:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                raise DeadlineExceeded(self._timeout)
        self._call_rows = 0
        method = self._role.calls().get_training_set
        self._call = method(self._requests(), timeout=remaining, metadata=self._role.metadata)
        for message in self._call:
            if message.WhichOneof("part") != "header":
                break
            header: serving_pb2.TrainingSetHeader = message.header
            return header
        raise ProtocolError("a training set did not begin with its header")

    def _requests(self) -> Iterator[serving_pb2.GetTrainingSetRequest]:
        call = 0 if self._spine is None else self._spine.restart()
        start = serving_pb2.TrainingSetStart()
        start.CopyFrom(self._start)
        if self._spine is not None:
            # What is wrong with a row is told by its number in the whole spine.
            start.spine.rows_before = self.rows
        return self._messages(start, call)

    def _messages(
        self, start: serving_pb2.TrainingSetStart, call: int
    ) -> Iterator[serving_pb2.GetTrainingSetRequest]:
        yield serving_pb2.GetTrainingSetRequest(start=start)
        if self._spine is None:
            return
        for message in self._spine.requests(call):
            yield serving_pb2.GetTrainingSetRequest(spine_arrow_ipc=message)
        if self._spine.has_failed and self._call is not None:
            # What was sent is no whole spine.
            self._call.cancel()

    def _resume(self) -> None:
        header = self._open()
        if header.version != self.header.version or not _schema(header).equals(self._features):
            raise ProtocolError("a call with the version of a header gave another training set")

    def _read(self) -> Iterator[pa.RecordBatch]:
        for message in self._call:
            part = message.WhichOneof("part")
            if part == "rows":
                yield from self._take(message.rows)
            elif part == "summary":
                self._finish(message.summary)
                self._end()
                return
            else:
                raise ProtocolError(f"a training set went on with {part}")
        raise ProtocolError("a training set ended without its summary: it is not whole")

    def _take(self, part: serving_pb2.TrainingSetRows) -> Iterator[pa.RecordBatch]:
        batch = pa.ipc.read_record_batch(pa.py_buffer(part.arrow_ipc), self._features)
        if part.first_row != self._call_rows or part.rows != batch.num_rows:
            found = f"{batch.num_rows} rows from {part.first_row} on, said to be {part.rows}"
            raise ProtocolError(f"{found}, came after {self._call_rows} rows")
        self._call_rows += batch.num_rows
        self.rows += batch.num_rows
        self._patience.renew()
        if self._spine is None:
            self._start.cursor = part.cursor
            yield batch
            return
        start = 0
        for own in self._spine.take(batch.num_rows):
            columns = own.columns + batch.slice(start, own.num_rows).columns
            start += own.num_rows
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _finish(self, summary: serving_pb2.TrainingSetSummary) -> None:
        if self._spine is not None:
            self._spine.raise_failure()
            if not self._spine.is_answered:
                raise ProtocolError("a training set ended before every row of the spine had one")
        if summary.rows != self._call_rows:
            raise ProtocolError(f"{self._call_rows} rows came, said to be {summary.rows}")
        self.summary = summary

    def _end(self) -> None:
        """Takes the status, which is all that comes behind the summary."""
        try:
            for _ in self._call:
                raise ProtocolError("a training set went on behind its summary")
        except grpc.RpcError:
            # It is whole: how the call ends is of no consequence.
            pass

    def _schema(self) -> pa.Schema:
        if self._spine is None:
            return self._features
        names = set(self._spine.schema.names) & set(self._features.names)
        if names:
            self.close()
            raise InvalidInput(
                "spine",
                f"has the columns {sorted(names)}, and so have the features: rename those of "
                "the spine, or leave these features out",
            )
        return pa.schema([*self._spine.schema, *self._features])

    def _failure(self, error: grpc.RpcError) -> MillraceError:
        if self._spine is not None:
            self._spine.raise_failure()
        if self._is_closed:
            return MillraceError("the training set is closed")
        return self._role.failure(error, self._timeout)


def _schema(header: serving_pb2.TrainingSetHeader) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(header.schema_arrow_ipc)).remove_metadata()
