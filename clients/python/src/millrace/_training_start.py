"""The question of a training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ._instants import Instant, to_timestamp
from .errors import InvalidInput
from .v1 import serving_pb2


def start_of(
    view: str | Sequence[str],
    *,
    has_spine: bool,
    events: bool,
    from_: Instant | None,
    to: Instant | None,
    known_at: Instant | str,
    features: Sequence[str] | Mapping[str, Sequence[str]] | None,
    include_late: bool,
    version: str | None,
) -> serving_pb2.TrainingSetStart:
    """The first message of a call. Raises InvalidInput for arguments that do not go together."""
    start = serving_pb2.TrainingSetStart(include_late=include_late, version=version or "")
    views = [view] if isinstance(view, str) else list(view)
    start.views.extend(_views(views, features))
    if has_spine == events:
        raise InvalidInput("spine", "give either a spine or events=True: where rows come from")
    if has_spine:
        if from_ is not None or to is not None:
            raise InvalidInput("from_", "from_ and to are for events=True; filter the spine itself")
        start.spine.SetInParent()
    else:
        if len(views) != 1:
            raise InvalidInput("view", "the events are those of one view: name a single one")
        start.events.SetInParent()
        if from_ is not None:
            getattr(start.events, "from").CopyFrom(to_timestamp(from_, "from_"))
        if to is not None:
            start.events.to.CopyFrom(to_timestamp(to, "to"))
    if known_at == "latest":
        start.latest.SetInParent()
    elif known_at == "at_event":
        start.at_event.SetInParent()
    elif isinstance(known_at, str):
        raise InvalidInput("known_at", f'{known_at!r} is none of "latest", "at_event", an instant')
    else:
        start.instant.CopyFrom(to_timestamp(known_at, "known_at"))
    return start


def _views(
    views: Sequence[str], features: Sequence[str] | Mapping[str, Sequence[str]] | None
) -> list[serving_pb2.TrainingView]:
    if isinstance(features, str):
        raise InvalidInput("features", "must be a list of names")
    if not isinstance(features, Mapping):
        if features and len(views) != 1:
            raise InvalidInput("features", "of several views they are given by view, as a dict")
        features = {view: features or () for view in views}
    if unknown := set(features) - set(views):
        raise InvalidInput("features", f"names the views {sorted(unknown)}, which are not read")
    return [
        serving_pb2.TrainingView(view=view, features=features.get(view, ())) for view in views
    ]
