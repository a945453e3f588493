"""The services that a client calls, each at one address or several."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import grpc

from ._patience import Patience
from ._settings import Settings, Target
from ._status import error_of
from .errors import MillraceError
from .v1 import (
    admin_pb2,
    admin_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    ingest_pb2,
    ingest_pb2_grpc,
    serving_pb2,
    serving_pb2_grpc,
)

#: Above the greatest answer of a server, 16 MiB.
RECEIVE_BYTES_MAX = 32 * 1024 * 1024

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
    # As often as servers are asked by the other clients; they allow it.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A call that fails is repeated here, within its time; grpc only has to connect soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", "millrace-python"),
)

Metadata = tuple[tuple[str, str], ...]
Request = TypeVar("Request")
Response = TypeVar("Response")
Calls = TypeVar("Calls")


class Serving:
    """The calls of feature-serving."""

    def __init__(self, channel: grpc.Channel) -> None:
        features = serving_pb2_grpc.FeatureServiceStub(channel)
        self.get_features: grpc.UnaryUnaryMultiCallable[
            serving_pb2.GetFeaturesRequest, serving_pb2.GetFeaturesResponse
        ] = features.GetFeatures
        self.get_training_set: grpc.StreamStreamMultiCallable[
            serving_pb2.GetTrainingSetRequest, serving_pb2.GetTrainingSetResponse
        ] = features.GetTrainingSet
        self.get_status: grpc.UnaryUnaryMultiCallable[
            admin_pb2.GetStatusRequest, admin_pb2.GetStatusResponse
        ] = admin_pb2_grpc.AdminServiceStub(channel).GetStatus


class Ingest:
    """The calls of ingest."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.publish: grpc.StreamStreamMultiCallable[
            ingest_pb2.PublishRequest, ingest_pb2.PublishResponse
        ] = ingest_pb2_grpc.IngestServiceStub(channel).Publish
        self.apply_catalog: grpc.UnaryUnaryMultiCallable[
            catalog_pb2.ApplyCatalogRequest, catalog_pb2.ApplyCatalogResponse
        ] = catalog_pb2_grpc.CatalogServiceStub(channel).ApplyCatalog


class Role(Generic[Calls]):
    """A service one can call, wherever it is. Calls spread over its addresses.

    It connects at the first call, and anew in a process that was forked since.
    """

    def __init__(
        self,
        name: str,
        targets: tuple[Target, ...],
        settings: Settings,
        calls: Callable[[grpc.Channel], Calls],
    ) -> None:
        #: For messages.
        self.name = name
        #: For messages.
        self.address = ", ".join(target.endpoint for target in targets)
        #: Sent with every call.
        token = settings.token
        self.metadata: Metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self._targets = targets
        self._credentials = settings.credentials
        self._calls = calls
        self._lock = threading.Lock()
        self._process = 0
        self._channels: list[grpc.Channel] = []
        self._turns: Iterator[Calls] = iter(())
        self._is_closed = False

    def calls(self) -> Calls:
        """The calls at the address whose turn it is. Raises MillraceError after `close`."""
        with self._lock:
            if self._is_closed:
                raise MillraceError("the client is closed: make another one")
            if self._process != os.getpid():
                self._process = os.getpid()
                self._channels = [self._connect(target) for target in self._targets]
                self._turns = itertools.cycle([self._calls(c) for c in self._channels])
            return next(self._turns)

    def unary(
        self,
        method: Callable[[Calls], grpc.UnaryUnaryMultiCallable[Request, Response]],
        request: Request,
        timeout: float,
    ) -> Response:
        """Makes a call that may be repeated, until it is answered or its seconds are over."""
        deadline = time.monotonic() + timeout
        patience = Patience(timeout, deadline=deadline)
        while True:
            remaining = max(deadline - time.monotonic(), 0.001)
            try:
                call = method(self.calls())
                return call(request, timeout=remaining, metadata=self.metadata)
            except grpc.RpcError as error:
                failure = self.failure(error, timeout)
            patience.wait(failure)

    def failure(self, error: grpc.RpcError, limit: float | None) -> MillraceError:
        """The error of this package; `limit` is what the call was given, in seconds."""
        return error_of(error, self.name, self.address, limit)

    def close(self) -> None:
        """Ends every call under way."""
        with self._lock:
            self._is_closed = True
            channels, self._channels = self._channels, []
        for channel in channels:
            channel.close()

    def _connect(self, target: Target) -> grpc.Channel:
        if target.is_secure and self._credentials is not None:
            return grpc.secure_channel(target.address, self._credentials, options=OPTIONS)
        return grpc.insecure_channel(target.address, options=OPTIONS)
