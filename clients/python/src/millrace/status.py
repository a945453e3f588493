"""What `Client.status` and `Client.apply` give."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Status:
    """The state of a running Millrace."""

    #: Every service takes calls and every slot has an owner.
    serving: bool
    #: Entities that wait for a rebuild.
    rebuild_queue: int
    #: How far the event time of each stream is complete; None before its first watermark.
    watermarks: dict[str, datetime | None]
    #: The part of the entities that know every feature of the catalog: below 1 while features that were
    #: added are filled in.
    backfill_done: float
    #: The catalog version in force; 0 before the first.
    catalog_version: int
    #: The version of the software.
    software_version: str


@dataclass(frozen=True)
class Applied:
    """What applying a catalog changed, or would change."""

    #: The version now in force.
    version: int
    #: Whether a new version was made.
    applied: bool
    #: The paths of what changed, such as `views.user_activity.features.clicks_1h`.
    changes: tuple[str, ...]
