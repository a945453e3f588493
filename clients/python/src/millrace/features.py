"""What `Client.get_features` gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

import pyarrow as pa

from ._frames import to_pandas
from ._values import Counted, FeatureValue, Key, kind_of
from .errors import InvalidInput
from .v1 import value_pb2

if TYPE_CHECKING:
    import pandas as pd


class ValueStatus(str, Enum):
    """What there is to say about the value of a feature."""

    #: There is a value. An empty list and a count of 0 are values.
    PRESENT = "PRESENT"
    #: There is nothing to aggregate, or the field is NULL.
    NULL = "NULL"
    #: The entity has no live fact at or before the instant of the read.
    MISSING_ENTITY = "MISSING_ENTITY"
    #: The result does not fit its type; the value is None.
    OVERFLOW = "OVERFLOW"
    #: More distinct values than the limit of the feature.
    TRUNCATED = "TRUNCATED"
    #: The feature is new and is being filled in from the log: no value yet.
    BACKFILLING = "BACKFILLING"
    #: One that this version of the package does not know.
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class FeatureColumn:
    """What is the same for the values of a feature of all entities."""

    #: Its name.
    name: str
    #: The first instant that its window counts; None where it has no start, or no window.
    window_start: datetime | None
    #: The first instant that its window does not count any more; None without a window.
    window_end: datetime | None


@dataclass(frozen=True)
class VersionUsed:
    """The version of a joined changelog in force at the instant of the read."""

    #: From when on it holds.
    valid_from: datetime
    #: Its id.
    id: str


@dataclass(frozen=True)
class EntityFeatures:
    """The features of one entity."""

    #: Its key, as it was asked for.
    key: Key
    #: The values by feature; None is NULL, and the status says why.
    values: dict[str, FeatureValue]
    #: The statuses by feature.
    statuses: dict[str, ValueStatus]
    #: How far the event time of the view's streams is complete; None before the first watermark.
    watermark: datetime | None
    #: Up to when what was known is in the values.
    known_at: datetime | None
    #: Only a correction can change the values: all they rest on lies before the watermark.
    final: bool
    #: Facts of the entity wait for a rebuild; the values are those before them.
    rebuilding: bool
    #: Names exactly the facts in effect. Opaque.
    version: str
    #: By joined changelog the version in force; None where there is none.
    versions: dict[str, VersionUsed | None]


class Features:
    """Features of entities of a view, in the order of the keys asked for.

    Iterating gives :class:`EntityFeatures`; `features[key]` is the one of a key.
    """

    def __init__(
        self,
        *,
        view: str,
        at: datetime,
        catalog_version: int,
        columns: Sequence[FeatureColumn],
        rows: Sequence[EntityFeatures],
        raw: Sequence[Sequence[value_pb2.FeatureValue]],
    ) -> None:
        """`raw` has the values of each row as they came."""
        #: The view.
        self.view = view
        #: The instant of the read: windows end just before it.
        self.at = at
        #: The catalog version that the features were read under.
        self.catalog_version = catalog_version
        #: The features, in the order asked for.
        self.columns = tuple(columns)
        #: The entities, in the order asked for.
        self.rows = tuple(rows)
        self._raw = raw
        self._by_key = {row.key: row for row in self.rows}

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[EntityFeatures]:
        return iter(self.rows)

    def __getitem__(self, key: Key) -> EntityFeatures:
        return self._by_key[key]

    def __repr__(self) -> str:
        names = ", ".join(self.names)
        return f"<Features of {self.view} at {self.at.isoformat()}: {len(self)} rows of {names}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(column.name for column in self.columns)

    @property
    def known_at(self) -> datetime | None:
        """The least `known_at` of the rows; None without rows."""
        return min((r.known_at for r in self.rows if r.known_at is not None), default=None)

    @property
    def watermark(self) -> datetime | None:
        """The least watermark of the rows; None where a row has none."""
        marks = [row.watermark for row in self.rows]
        known = [mark for mark in marks if mark is not None]
        return min(known) if known and len(known) == len(marks) else None

    @property
    def final(self) -> bool:
        """Whether every row is final."""
        return all(row.final for row in self.rows)

    @property
    def rebuilding(self) -> bool:
        """Whether any row waits for a rebuild."""
        return any(row.rebuilding for row in self.rows)

    def to_dict(self) -> dict[Key, dict[str, FeatureValue]]:
        """The values by key and feature."""
        return {row.key: dict(row.values) for row in self.rows}

    def to_arrow(
        self, *, schema: pa.Schema | None = None, key_names: Sequence[str] | None = None
    ) -> pa.Table:
        """A row for each entity: its key, then its features.

        The answer of a read does not tell types: a feature that is NULL in every row has the type
        null, unless `schema`, such as that of a training set, has a column of its name.
        `key_names` names the columns of the key's parts: `key` by default, or `key_1`, `key_2` …
        of several. Empty, it leaves them out.
        """
        arrays, names = self._keys(key_names)
        for index, name in enumerate(self.names):
            wanted = None if schema is None else _type_in(schema, self.view, name)
            values = [row.values[name] for row in self.rows]
            kind = wanted or _type_of(kind_of([raw[index] for raw in self._raw]))
            arrays.append(pa.array([_plain(value) for value in values], type=kind))
            names.append(name)
        return pa.Table.from_arrays(arrays, names=names)

    def to_pandas(self, *, schema: pa.Schema | None = None) -> pd.DataFrame:
        """The same as :meth:`to_arrow` as a DataFrame.

        Raises ImportError without pandas.
        """
        return to_pandas(self.to_arrow(schema=schema))

    def _keys(self, names: Sequence[str] | None) -> tuple[list[pa.Array], list[str]]:
        parts = [row.key if isinstance(row.key, tuple) else (row.key,) for row in self.rows]
        width = len(parts[0]) if parts else 1
        if names is None:
            names = ["key"] if width == 1 else [f"key_{i + 1}" for i in range(width)]
        if names and len(names) != width:
            raise InvalidInput("key_names", f"a key has {width} parts, and each needs a name")
        return [pa.array([key[i] for key in parts]) for i in range(len(names))], list(names)


#: The Arrow types of the kinds of a value.
TYPES = {
    None: pa.null(),
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "timestamp": pa.timestamp("us", "UTC"),
}


def _type_of(kinds: tuple[str | None, str | None]) -> pa.DataType:
    kind, element = kinds
    if kind == "list":
        return pa.list_(TYPES[element])
    if kind == "counted":
        return pa.list_(pa.struct({"value": TYPES[element], "count": pa.int64()}))
    return TYPES[kind]


def _type_in(schema: pa.Schema, view: str, name: str) -> pa.DataType | None:
    """The type of a feature in the schema of a training set of one view or of several."""
    for column in (f"{view}.{name}", name):
        if (index := schema.get_field_index(column)) >= 0:
            return schema.field(index).type
    return None


def _plain(value: FeatureValue) -> object:
    """The value as pyarrow takes it: a struct is a dict."""
    if isinstance(value, list):
        return [asdict(e) if isinstance(e, Counted) else e for e in value]
    return value
