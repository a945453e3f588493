"""Instants: whole microseconds since the epoch, timestamps of the protocol, aware datetimes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp

from .errors import InvalidInput

#: An instant: an aware datetime, or whole microseconds since 1970-01-01T00:00:00Z.
Instant = datetime | int

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
SECOND = 1_000_000


def micros(instant: Instant, field: str) -> int:
    """Microseconds since the epoch; finer digits are cut off, towards the past.

    Raises InvalidInput for a datetime without a time zone and for anything that is no instant.
    """
    if isinstance(instant, bool) or not isinstance(instant, (int, datetime)):
        raise InvalidInput(
            field, f"must be an aware datetime or integer microseconds, not {instant!r}"
        )
    if isinstance(instant, int):
        return instant
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise InvalidInput(
            field, f"{instant!r} has no time zone: write .replace(tzinfo=timezone.utc)"
        )
    return int((instant - EPOCH) // MICROSECOND)


def to_timestamp(instant: Instant, field: str) -> Timestamp:
    """The timestamp of the protocol. Raises InvalidInput as `micros` does."""
    seconds, rest = divmod(micros(instant, field), SECOND)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def to_datetime(timestamp: Timestamp) -> datetime:
    """The same instant in UTC."""
    return EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1_000)
