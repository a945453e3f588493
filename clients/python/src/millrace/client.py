"""The client: where it all begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from ._batches import Source
from ._frames import reader
from ._instants import Instant, to_datetime
from ._publisher import Publisher
from ._reads import read
from ._services import Ingest, Role, Serving
from ._settings import Endpoint, Tls, settings
from ._spine import Spine
from ._training_call import TrainingCall
from ._training_start import start_of
from ._values import Key
from .errors import InvalidInput
from .features import Features
from .publishing import Published
from .status import Applied, Status
from .training import TrainingSet
from .v1 import admin_pb2, catalog_pb2


def _backfill_done(answer: admin_pb2.GetStatusResponse) -> float:
    return answer.backfill.done_permille / 1000 if answer.HasField("backfill") else 1.0


class Client:
    """A client of one Millrace. It may be used by several threads, and in a `with` statement.

    It connects at the first call. Calls that may be repeated are, while a service is not there or
    asks for patience, within their time; what then remains is raised as a
    :class:`~millrace.MillraceError`.
    """

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        *,
        serving: Endpoint | None = None,
        ingest: Endpoint | None = None,
        join: Endpoint | None = None,
        tls: Tls | None = None,
        token: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        """`endpoint` is where everything is, `serving`, `ingest` and `join` where a service runs
        apart: `http://` or `https://` addresses, of several a list. What is not given is taken from
        MILLRACE_ENDPOINT, MILLRACE_SERVING_ENDPOINT, MILLRACE_INGEST_ENDPOINT,
        MILLRACE_JOIN_ENDPOINT; then it is http://127.0.0.1:7400.

        `tls` is for `https://` addresses (else MILLRACE_CA, MILLRACE_CERT, MILLRACE_KEY); `token` is
        shown with every call, `@FILE` reads it from a file (else MILLRACE_TOKEN). `timeout` is in
        seconds and holds for each call, whatever it is repeated.

        Raises InvalidInput for what is no address and no file, and where a token would go
        unencrypted to another machine.
        """
        if not timeout > 0:
            raise InvalidInput("timeout", "must be more than 0 seconds")
        self._settings = settings(
            endpoint=endpoint, serving=serving, ingest=ingest, join=join, tls=tls, token=token
        )
        self._timeout = timeout
        self._serving = Role("feature-serving", self._settings.serving, self._settings, Serving)
        self._ingest = Role("ingest", self._settings.ingest, self._settings, Ingest)

    def get_features(
        self,
        view: str,
        keys: Iterable[Key],
        *,
        features: Sequence[str] | None = None,
        at: Instant | Literal["now", "latest"] | None = None,
        known_at: Instant | None = None,
    ) -> Features:
        """Reads features of entities of a view, in the order of `keys`.

        A key is an int or a str, of several parts a tuple. `features` are those wanted, in this
        order; all by default. `at` is the instant of the read, before which windows end: an aware
        datetime, integer microseconds, "now" (the default) or "latest", the greatest event time
        seen. `known_at` leaves out what became known later, and must not be ahead of now.

        More than 1,000 keys are read in several calls, all at one instant. An entity that is
        missing is no error: its statuses say so.

        Raises InvalidInput, and NotFound for a view or feature that is not there; ResourceExhausted
        with the reason READ_BUDGET_SPENT where the log would have to be read too far: ask for a
        training set then.
        """
        return read(
            self._serving,
            view,
            keys,
            features=features,
            at=at,
            known_at=known_at,
            timeout=self._timeout,
        )

    def training_set(
        self,
        view: str | Sequence[str],
        *,
        spine: Any = None,
        events: bool = False,
        from_: Instant | None = None,
        to: Instant | None = None,
        known_at: Instant | Literal["latest", "at_event"] = "latest",
        features: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        include_late: bool = False,
        version: str | None = None,
        keys: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> TrainingSet:
        """Reads a training set from the log: rows with the features of their entity at their
        instant.

        The rows are those of `spine` or, with `events=True`, the events of the view from `from_`
        on and before `to`. A spine is a table of pyarrow, a RecordBatchReader, or a DataFrame of
        pandas or polars, with a column for each key, named after the entity kind or the stream's
        key field, and `at`: timestamps with a time zone, or integer microseconds. Its other
        columns, such as labels, come back beside the features and are not sent; `keys` names those
        to send, where others that are integers or strings shall stay here too.

        `known_at` says what counts: "latest" everything confirmed, "at_event" for each row what
        was known by its own instant, or what was known at an instant. `features` are those wanted,
        of several views by view; all by default. `include_late` counts facts judged LATE too.
        `version`, that of an earlier set, reads exactly what was read then.

        The call has begun and its header is there when this returns; rows are read as they are
        taken, in bounded memory, and a call that breaks is taken up where it was. `timeout` bounds
        the whole of it in seconds; None does not.

        Raises InvalidInput for a spine that is none, and MillraceError as a call does, also from
        the methods of the set.
        """
        start = start_of(
            view,
            has_spine=spine is not None,
            events=events,
            from_=from_,
            to=to,
            known_at=known_at,
            features=features,
            include_late=include_late,
            version=version,
        )
        rows = None if spine is None else Spine(reader(spine, "spine"), keys)
        call = TrainingCall(self._serving, start, rows, patience=self._timeout, timeout=timeout)
        return TrainingSet(call)

    def publish(
        self,
        stream: str,
        rows: Any,
        *,
        producer: str | None = None,
        first_sequence: int = 0,
    ) -> Published:
        """Publishes facts and waits until each is durable or refused.

        `rows` is a table of pyarrow, a RecordBatchReader, a DataFrame of pandas or polars, or an
        iterable of dicts by field (None is NULL). Columns have the types of the stream's fields:
        nothing is converted, so a column of integers with NULLs must not have become one of
        floats (in pandas use Int64). In tables NaN of pandas is NULL.

        Facts are numbered from `first_sequence` on, in the order of the rows. A producer names one
        numbering of one content for ever: by default it is a hash of the content, so publishing
        the same rows again counts nothing twice. What can be read only once needs a `producer`,
        and only one batch of it at a time is in memory beside those in flight.

        A call that breaks is taken up by sending again what was not answered. Facts that are
        rejected or late are no error: the result counts and lists them.

        Raises InvalidInput before or between batches, DeadlineExceeded when nothing is answered
        within the client's timeout, and MillraceError as a call does. What was answered by then is
        durable; publishing the same again is safe.
        """
        source = Source(stream, rows, producer=producer, first_sequence=first_sequence)
        return Publisher(self._ingest, source, timeout=self._timeout).run()

    def apply(self, catalog: str, *, dry_run: bool = False) -> Applied:
        """Applies a catalog, the text of its YAML file; with `dry_run` shows the difference only.

        Raises InvalidArgument with the reason CATALOG_INVALID and its first problems as violations.
        """
        request = catalog_pb2.ApplyCatalogRequest(source=catalog, dry_run=dry_run)
        answer = self._ingest.unary(lambda calls: calls.apply_catalog, request, self._timeout)
        changes = tuple(change.path for change in answer.changes)
        return Applied(version=answer.version, applied=answer.applied, changes=changes)

    def status(self) -> Status:
        """The state as of what was confirmed before the call. Raises MillraceError."""
        request = admin_pb2.GetStatusRequest()
        answer = self._serving.unary(lambda calls: calls.get_status, request, self._timeout)
        return Status(
            serving=answer.serving,
            rebuild_queue=answer.rebuild_queue,
            watermarks={
                state.stream: to_datetime(state.watermark) if state.HasField("watermark") else None
                for state in answer.streams
            },
            backfill_done=_backfill_done(answer),
            catalog_version=answer.catalog_version,
            software_version=answer.software_version,
        )

    def close(self) -> None:
        """Ends every call under way. Calls made later raise MillraceError."""
        self._serving.close()
        self._ingest.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self._settings!r}>"
