"""Publishes: one call after the other, until every batch is answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc

from ._batches import Source
from ._patience import Patience
from ._services import Ingest, Role
from ._window import Window
from .errors import Broken, DeadlineExceeded, MillraceError, ProtocolError
from .publishing import Published
from .v1 import ingest_pb2

#: A call that has answered everything has so many seconds to end by itself.
END_WITHIN = 5.0


class Publisher:
    """Sends the batches of a source as credits allow, and again those that a call left unanswered.

    Requests are made on a thread of grpc, one call at a time; answers are taken on the caller's.
    What is read of the source and not answered is what the credits allow, and one batch.
    """

    def __init__(self, role: Role[Ingest], source: Source, *, timeout: float) -> None:
        """`timeout` bounds in seconds how long no answer comes, and failures follow each other."""
        self._role = role
        self._source = source
        self._timeout = timeout
        self._patience = Patience(timeout)
        self._batches = source.batches()
        self._has_more = True
        self._window = Window()
        #: Held while the source is read, and then before the other.
        self._reading = threading.Lock()
        self._changed = threading.Condition()
        #: The number of the call in progress; requests of another one end.
        self._number = 0
        self._call: Any = None
        #: Since when nothing was answered and nothing read.
        self._quiet_since = 0.0
        #: Why no more is sent, where that is not the end of the source.
        self._failure: Exception | None = None

    def run(self) -> Published:
        """Publishes everything. Raises MillraceError; what was answered by then is durable.

        An error of the source is raised once everything that was read before is answered.
        """
        first = self._source.first_sequence
        published = Published(self._source.producer, self._source.stream, first)
        while True:
            failure: MillraceError
            try:
                self._run_call(published)
                self._raise_failure()
                return published
            except grpc.RpcError as error:
                failure = self._role.failure(error, self._timeout)
            except Broken as error:
                failure = error
            finally:
                self._stop()
            if isinstance(self._failure, DeadlineExceeded):
                raise self._failure
            self._patience.wait(failure)

    def _run_call(self, published: Published) -> None:
        with self._changed:
            self._number += 1
            number = self._number
            self._window.restart()
            self._quiet_since = time.monotonic()
        method = self._role.calls().publish
        self._call = method(self._requests(number), metadata=self._role.metadata)
        for answer in self._call:
            self._take(answer, published)
            if self._is_done():
                self._end()
                return
        if not self._is_done():
            reason = "the server ended the call before everything was answered"
            raise Broken(self._role.name, self._role.address, reason)

    def _requests(self, number: int) -> Iterator[ingest_pb2.PublishRequest]:
        while (request := self._next(number)) is not None:
            yield request

    def _next(self, number: int) -> ingest_pb2.PublishRequest | None:
        """The next request of a call; None when everything is answered or the call is over."""
        # The thread of an older call may be reading still: what it reads is the next one's.
        with self._reading:
            while True:
                with self._changed:
                    if number != self._number or self._is_done():
                        return None
                    if self._window.may_send():
                        return self._window.send()
                    if self._window.has_unsent or not self._has_more:
                        if not self._wait():
                            return None
                        continue
                # Answers are taken meanwhile, however long the source takes.
                self._read()

    def _read(self) -> None:
        batch, failure = None, None
        try:
            batch = next(self._batches, None)
        except Exception as error:
            # What was read before is still sent and answered.
            failure = error
        with self._changed:
            self._failure = self._failure or failure
            self._has_more = batch is not None
            if batch is not None:
                self._window.push(batch)
            self._quiet_since = time.monotonic()

    def _wait(self) -> bool:
        """Waits for an answer; False when none came for too long, which ends the call."""
        remaining = self._quiet_since + self._timeout - time.monotonic()
        if remaining > 0:
            self._changed.wait(remaining)
            return True
        self._failure = DeadlineExceeded(self._timeout, "ingest answered nothing for too long")
        if self._call is not None:
            self._call.cancel()
        return False

    def _take(self, answer: ingest_pb2.PublishResponse, published: Published) -> None:
        with self._changed:
            self._quiet_since = time.monotonic()
            if answer.HasField("credits"):
                self._window.grant(answer.credits)
            if answer.HasField("result"):
                self._settle(answer.result, published)
            self._changed.notify_all()

    def _settle(self, result: ingest_pb2.PublishResult, published: Published) -> None:
        found = (result.first_sequence, result.next_sequence)
        batch = self._window.answered()
        if batch is None:
            raise ProtocolError(f"{found} was answered but never sent")
        sent = (batch.request.first_sequence, batch.request.next_sequence)
        if found != sent:
            raise ProtocolError(f"{found} was answered where {sent} was sent")
        self._patience.renew()
        published.next_sequence = result.next_sequence
        published.add(result, batch.facts, self._source.first_sequence)

    def _is_done(self) -> bool:
        with self._changed:
            return not self._has_more and self._window.is_empty

    def _end(self) -> None:
        """Lets the call end: the server hears by the end of the requests that no more comes."""
        timer = threading.Timer(END_WITHIN, self._call.cancel)
        timer.daemon = True
        timer.start()
        try:
            for _ in self._call:
                pass
        except grpc.RpcError:
            # Everything is answered: how the call ends is of no consequence.
            pass
        finally:
            timer.cancel()

    def _stop(self) -> None:
        """Ends the requests of the call, and the call where it has not ended."""
        with self._changed:
            self._number += 1
            self._changed.notify_all()
        if self._call is not None:
            self._call.cancel()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
