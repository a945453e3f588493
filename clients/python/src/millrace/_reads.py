"""Online reads: the request of a read, and what its answers say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ._instants import Instant, to_datetime, to_timestamp
from ._services import Role, Serving
from ._values import Key, entity_key, feature_value
from .errors import InvalidInput, ProtocolError
from .features import EntityFeatures, FeatureColumn, Features, ValueStatus, VersionUsed
from .v1 import serving_pb2, value_pb2

#: The protocol's limit of the entities of a call.
ENTITIES_MAX = 1_000

MOMENTS = {"now": serving_pb2.MOMENT_NOW, "latest": serving_pb2.MOMENT_LATEST}


def read(
    role: Role[Serving],
    view: str,
    keys: Iterable[Key],
    *,
    features: Sequence[str] | None,
    at: Instant | str | None,
    known_at: Instant | None,
    timeout: float,
) -> Features:
    """Reads in as many calls as it takes, all at the instant of the first."""
    for field, given in (("keys", keys), ("features", features)):
        if isinstance(given, (str, bytes)):
            raise InvalidInput(field, f"must be a list, such as [{given!r}]")
    keys = list(keys)
    request = serving_pb2.GetFeaturesRequest(view=view, features=features or ())
    _set_at(request, at)
    if known_at is not None:
        request.known_at.CopyFrom(to_timestamp(known_at, "known_at"))
    entities = [entity_key(key) for key in keys]
    answers: list[serving_pb2.GetFeaturesResponse] = []
    for start in range(0, max(len(entities), 1), ENTITIES_MAX):
        part = entities[start : start + ENTITIES_MAX]
        del request.entities[:]
        request.entities.extend(part)
        answer = role.unary(lambda calls: calls.get_features, request, timeout)
        if len(answer.entities) != len(part):
            raise ProtocolError(f"{len(answer.entities)} of {len(part)} entities were answered")
        if answers and _names(answer) != _names(answers[0]):
            raise ProtocolError("the catalog changed between the calls of a read: read again")
        answers.append(answer)
        # "now" and "latest" are one instant for all of them.
        request.at.CopyFrom(answer.at)
    return _features(view, keys, answers)


def _set_at(request: serving_pb2.GetFeaturesRequest, at: Instant | str | None) -> None:
    if at is None:
        request.moment = serving_pb2.MOMENT_NOW
    elif isinstance(at, str):
        if at not in MOMENTS:
            raise InvalidInput("at", f'{at!r} is no moment: "now", "latest", or an instant')
        request.moment = MOMENTS[at]
    else:
        request.at.CopyFrom(to_timestamp(at, "at"))


def _names(answer: serving_pb2.GetFeaturesResponse) -> list[str]:
    return [column.name for column in answer.features]


def _features(
    view: str, keys: Sequence[Key], answers: Sequence[serving_pb2.GetFeaturesResponse]
) -> Features:
    first = answers[0]
    names = _names(first)
    found = [(answer.changelogs, entity) for answer in answers for entity in answer.entities]
    rows = [
        _row(key, names, changelogs, entity) for key, (changelogs, entity) in zip(keys, found)
    ]
    return Features(
        view=view,
        at=to_datetime(first.at),
        catalog_version=max(answer.catalog_version for answer in answers),
        columns=[_column(column) for column in first.features],
        rows=rows,
        raw=[entity.values for _, entity in found],
    )


def _column(column: serving_pb2.FeatureColumn) -> FeatureColumn:
    window = column.window
    return FeatureColumn(
        name=column.name,
        window_start=to_datetime(window.start) if window.HasField("start") else None,
        window_end=to_datetime(window.end) if window.HasField("end") else None,
    )


def _row(
    key: Key,
    names: Sequence[str],
    changelogs: Sequence[str],
    entity: serving_pb2.EntityFeatures,
) -> EntityFeatures:
    if len(entity.values) != len(names) or len(entity.statuses) != len(names):
        raise ProtocolError(f"{len(names)} features were answered with {len(entity.values)} values")
    return EntityFeatures(
        key=key,
        values=dict(zip(names, map(feature_value, entity.values))),
        statuses=dict(zip(names, map(_status, entity.statuses))),
        watermark=to_datetime(entity.watermark) if entity.HasField("watermark") else None,
        known_at=to_datetime(entity.known_at) if entity.HasField("known_at") else None,
        final=entity.final,
        rebuilding=entity.rebuilding,
        version=entity.version,
        versions=dict(zip(changelogs, map(_version, entity.versions))),
    )


def _status(number: int) -> ValueStatus:
    names = value_pb2.ValueStatus.DESCRIPTOR.values_by_number
    name = names[number].name.removeprefix("VALUE_STATUS_") if number in names else ""
    return ValueStatus(name) if name in ValueStatus.__members__ else ValueStatus.UNKNOWN


def _version(version: serving_pb2.VersionUsed) -> VersionUsed | None:
    if not version.HasField("valid_from"):
        return None
    return VersionUsed(valid_from=to_datetime(version.valid_from), id=version.id)
