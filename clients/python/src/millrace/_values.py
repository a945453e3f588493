"""Keys and values, between Python and the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ._instants import to_datetime, to_timestamp
from .errors import InvalidInput, ProtocolError
from .v1 import fact_pb2, value_pb2

#: One part of a key.
KeyPart = int | str
#: The key of an entity: its only part, or a tuple of its parts in the order of the catalog.
Key = KeyPart | tuple[KeyPart, ...]

#: A value of a field.
Scalar = bool | int | float | str | bytes | datetime | None


@dataclass(frozen=True)
class Counted:
    """A value and how often it occurs: an element of `top_k`."""

    #: The value, never None.
    value: Scalar
    #: How many rows have it.
    count: int


#: The value of a feature: a scalar, the list of `first_n` and `last_n`, or that of `top_k`.
FeatureValue = Scalar | list[Scalar] | list[Counted]

INT64 = range(-(2**63), 2**63)


def entity_key(key: Key) -> value_pb2.EntityKey:
    """The key as the protocol has it. Raises InvalidInput for what is none."""
    parts = key if isinstance(key, tuple) else (key,)
    if not parts:
        raise InvalidInput("keys", "a key has at least one part")
    return value_pb2.EntityKey(parts=[_key_part(part) for part in parts])


def _key_part(part: object) -> value_pb2.KeyPart:
    if isinstance(part, str) and part:
        return value_pb2.KeyPart(string=part)
    # Integers of numpy have __index__ and are no int.
    if isinstance(part, (bool, str, bytes)) or not hasattr(part, "__index__"):
        raise InvalidInput("keys", f"a part is an int or a str that is not empty, not {part!r}")
    number = part.__index__()
    if number not in INT64:
        raise InvalidInput("keys", f"{number} does not fit 64 bits")
    return value_pb2.KeyPart(int64=number)


def typed_row(row: Mapping[str, object]) -> fact_pb2.TypedRow:
    """A record as the protocol has it; None is NULL. Raises InvalidInput, naming the field."""
    values = {name: _value(name, value) for name, value in row.items()}
    return fact_pb2.TypedRow(values=values)


def _value(name: str, value: object) -> value_pb2.Value:
    if value is None:
        return value_pb2.Value()
    if isinstance(value, bool):
        return value_pb2.Value(bool=value)
    if isinstance(value, float):
        return value_pb2.Value(double=value)
    if isinstance(value, str):
        return value_pb2.Value(string=value)
    if isinstance(value, bytes):
        return value_pb2.Value(bytes=value)
    if isinstance(value, datetime):
        return value_pb2.Value(timestamp=to_timestamp(value, name))
    if hasattr(value, "__index__"):
        number = value.__index__()
        if number in INT64:
            return value_pb2.Value(int64=number)
        raise InvalidInput(name, f"{number} does not fit 64 bits")
    raise InvalidInput(
        name,
        f"{value!r} is a {type(value).__name__}: use bool, int, float, str, bytes, an aware "
        "datetime or None",
    )


def scalar(value: value_pb2.Value) -> Scalar:
    """The value in Python; None is NULL."""
    kind = value.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "timestamp":
        return to_datetime(value.timestamp)
    found: Scalar = getattr(value, kind)
    return found


def feature_value(value: value_pb2.FeatureValue) -> FeatureValue:
    """The value of a feature in Python; None is NULL."""
    kind = value.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "timestamp":
        return to_datetime(value.timestamp)
    if kind == "list":
        return [scalar(element) for element in value.list.values]
    if kind == "counted":
        return [Counted(scalar(c.value), c.count) for c in value.counted.values]
    found: Scalar = getattr(value, kind)
    return found


def kind_of(values: Sequence[value_pb2.FeatureValue]) -> tuple[str | None, str | None]:
    """The kind that values of one feature have, and that of the elements of lists.

    None where no value tells. Raises ProtocolError when they are of several kinds.
    """
    kinds, elements = set(), set()
    for value in values:
        kind = value.WhichOneof("kind")
        if kind is None:
            continue
        kinds.add(kind)
        if kind == "list":
            elements |= {element.WhichOneof("kind") for element in value.list.values}
        elif kind == "counted":
            elements |= {counted.value.WhichOneof("kind") for counted in value.counted.values}
    # NULL is an element of a list like any other, and of no kind.
    elements.discard(None)
    if len(kinds) > 1 or len(elements) > 1:
        raise ProtocolError(f"the values of a feature are of the kinds {sorted(kinds | elements)}")
    return next(iter(kinds), None), next(iter(elements), None)
