"""The spine of a training set: what of it was sent, and what is not answered yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence

import pyarrow as pa

from ._frames import encoded, plain
from .errors import InvalidInput, ProtocolError

#: The column with the instant of each row.
AT = "at"
#: The protocol's limit of a message.
MESSAGE_ROWS_MAX = 65_536
#: Half of what a server takes in a message: what is in memory is about as large in a message.
MESSAGE_BYTES_MAX = 512 * 1024


class Spine:
    """Sends a spine and keeps its rows until they are answered.

    Calls consume it on threads of grpc, one call at a time: `requests` of an older call ends once
    `restart` was called. How much is unanswered is up to the server, which reads no further than
    it wants to hold.
    """

    def __init__(self, source: pa.RecordBatchReader, keys: Sequence[str] | None) -> None:
        """`keys` names the columns that are sent beside `at`; None sends all that may be keys.

        Raises InvalidInput for a schema that is no spine's.
        """
        names = source.schema.names
        if repeated := {name for name in names if names.count(name) > 1}:
            raise InvalidInput("spine", f"has the columns {sorted(repeated)} more than once")
        #: The columns of the rows, as they were given. What pandas noted there is left out: it is
        #: about the spine alone.
        self.schema: pa.Schema = source.schema.remove_metadata()
        self._sent_schema = _sent_schema(self.schema, keys)
        self._source = iter(source)
        #: Held while the source is read, and then before the other.
        self._reading = threading.Lock()
        self._lock = threading.Lock()
        self._call = 0
        #: Rows that are not answered, in order, each batch as large as a message.
        self._unanswered: deque[pa.RecordBatch] = deque()
        #: How many batches of these were sent on this call.
        self._sent = 0
        #: Batches that were read and not sent at all.
        self._ahead: deque[pa.RecordBatch] = deque()
        self._is_read = False
        self._failure: Exception | None = None

    def restart(self) -> int:
        """A new call begins, which is sent every unanswered row again. Gives its number."""
        with self._lock:
            self._call += 1
            self._sent = 0
            return self._call

    def requests(self, call: int) -> Iterator[bytes]:
        """The messages of a call, Arrow IPC; the first begins with the schema."""
        schema = self._sent_schema.serialize().to_pybytes()
        try:
            while (batch := self._next(call)) is not None:
                for part, message in encoded(self._to_send(batch), batch.num_rows, 1 << 62):
                    yield schema + message
                schema = b""
        except Exception as error:
            # grpc would tell of it as an error of the call, and log it.
            with self._lock:
                self._failure = self._failure or error
            return
        if schema:
            yield schema

    @property
    def has_failed(self) -> bool:
        """Whether the source could not be read on."""
        with self._lock:
            return self._failure is not None

    def raise_failure(self) -> None:
        """Raises what went wrong while the source was read, if anything did."""
        with self._lock:
            failure = self._failure
        if failure is not None:
            raise failure

    def take(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Takes out the oldest rows, which were answered.

        Raises ProtocolError when fewer were sent.
        """
        while rows > 0:
            with self._lock:
                if not self._sent:
                    raise ProtocolError(f"{rows} rows were answered that were never sent")
                batch = self._unanswered.popleft()
                if batch.num_rows > rows:
                    self._unanswered.appendleft(batch.slice(rows))
                    batch = batch.slice(0, rows)
                else:
                    self._sent -= 1
            rows -= batch.num_rows
            yield batch

    @property
    def is_answered(self) -> bool:
        """Whether every row of the source was sent and answered."""
        with self._lock:
            return self._is_read and not self._unanswered

    def _next(self, call: int) -> pa.RecordBatch | None:
        """The next batch of a call; None at the end, and when another call took over."""
        # The thread of an older call may be reading still: what it reads is the next one's.
        with self._reading:
            while True:
                with self._lock:
                    if call != self._call:
                        return None
                    if self._sent == len(self._unanswered) and self._ahead:
                        self._unanswered.append(self._ahead.popleft())
                    if self._sent < len(self._unanswered):
                        self._sent += 1
                        return self._unanswered[self._sent - 1]
                # Answers are taken meanwhile, however long the source takes.
                if not self._read():
                    return None

    def _read(self) -> bool:
        """Reads the source on; False at its end."""
        for batch in self._source:
            if batch.num_rows == 0:
                continue
            batch = pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)
            rows = _rows_of_a_message(self._to_send(batch))
            for start in range(0, batch.num_rows, rows):
                self._ahead.append(batch.slice(start, rows))
            return True
        with self._lock:
            self._is_read = True
        return False

    def _to_send(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = self._sent_schema.names
        columns = plain(batch.select(names)).columns
        cast = [column.cast(field.type) for column, field in zip(columns, self._sent_schema)]
        return pa.RecordBatch.from_arrays(cast, schema=self._sent_schema)


def _rows_of_a_message(batch: pa.RecordBatch) -> int:
    """How many rows of a batch go in a message, if they are all about as large."""
    row_bytes = max(batch.nbytes / max(batch.num_rows, 1), 1)
    return max(min(int(MESSAGE_BYTES_MAX / row_bytes), MESSAGE_ROWS_MAX), 1)


def _sent_schema(schema: pa.Schema, keys: Sequence[str] | None) -> pa.Schema:
    """The columns that a server is sent: keys as int64 or utf8, and `at`."""
    if AT not in schema.names:
        raise InvalidInput("spine", f"needs a column {AT!r}: the instant of each row")
    at = _at_type(schema.field(AT).type)
    if keys is None:
        found = [(f.name, _key_type(f.type)) for f in schema if f.name != AT]
        columns = [(name, kind) for name, kind in found if kind is not None]
    else:
        columns = [(name, _stated_key(schema, name)) for name in keys]
    if not columns:
        raise InvalidInput("spine", "needs a column for each key, of integers or strings")
    return pa.schema([*columns, (AT, at)])


def _stated_key(schema: pa.Schema, name: str) -> pa.DataType:
    if name not in schema.names:
        raise InvalidInput("keys", f"the spine has no column {name!r}")
    kind = _key_type(schema.field(name).type)
    if kind is None:
        raise InvalidInput("keys", f"column {name!r} must be of integers or strings")
    return kind


def _at_type(found: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(found):
        return pa.int64()
    if not pa.types.is_timestamp(found):
        raise InvalidInput(
            "spine", f"column {AT!r} is {found}; it must be a timestamp or integer microseconds"
        )
    if found.tz is None:
        raise InvalidInput(
            "spine",
            f"column {AT!r} has no time zone: localize it, in pandas with .dt.tz_localize('UTC')",
        )
    return found


def _key_type(found: pa.DataType) -> pa.DataType | None:
    if pa.types.is_dictionary(found):
        found = found.value_type
    # One that is unsigned and of 64 bits may hold what no key is.
    if pa.types.is_integer(found) and found != pa.uint64():
        return pa.int64()
    is_text = pa.types.is_string(found) or pa.types.is_large_string(found)
    return pa.string() if is_text or found == pa.string_view() else None
