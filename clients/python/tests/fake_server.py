"""A server in this process whose answers tests write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from millrace.v1 import (
    admin_pb2_grpc,
    catalog_pb2_grpc,
    ingest_pb2_grpc,
    serving_pb2_grpc,
)

Context = grpc.ServicerContext


class Refusal(Exception):
    """Ends a call with a status as Millrace makes it, or, without a reason, as a proxy does."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str = "",
        message: str = "",
        *,
        retry_after: float | None = None,
        violations: Sequence[tuple[str, str]] = (),
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message or reason)
        self.code = code
        self.message = message or reason
        details: list[Any] = []
        if reason:
            info = error_details_pb2.ErrorInfo(reason=reason, domain="millrace.dev")
            info.metadata.update(metadata or {})
            details.append(info)
        if retry_after is not None:
            delay = Duration(nanos=int(retry_after * 1e9) % 10**9, seconds=int(retry_after))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        if violations:
            bad = error_details_pb2.BadRequest()
            for field, rule in violations:
                bad.field_violations.add(field=field, description=rule)
            details.append(bad)
        self.status = status_pb2.Status(code=code.value[0], message=self.message)
        for detail in details:
            self.status.details.add().Pack(detail)

    def end(self, context: Context) -> None:
        """Ends the call; does not return."""
        trailers = (("grpc-status-details-bin", self.status.SerializeToString()),)
        context.set_trailing_metadata(trailers if self.status.details else ())
        context.abort(self.code, self.message)


def broken() -> Refusal:
    """What a call sees whose connection broke."""
    return Refusal(grpc.StatusCode.UNAVAILABLE, message="Socket closed")


class Script:
    """The handlers of the calls, by name, and what was sent to them in order."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.metadata: list[dict[str, str]] = []

    def on(self, name: str, handler: Callable[..., Any]) -> None:
        """Lets `handler(request, context)` answer a call; of a stream it is a generator."""
        self.handlers[name] = handler

    def unary(self, name: str) -> Callable[..., Any]:
        """The handler of a call with one answer."""

        def handle(request: Any, context: Context) -> Any:
            self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
            try:
                return self.handlers[name](request, context)
            except Refusal as refusal:
                return refusal.end(context)

        return handle

    def stream(self, name: str) -> Callable[..., Any]:
        """The handler of a call with a stream of answers."""

        def handle(requests: Iterator[Any], context: Context) -> Iterator[Any]:
            self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
            try:
                yield from self.handlers[name](requests, context)
            except Refusal as refusal:
                refusal.end(context)

        return handle


class FakeServer:
    """Listens on a free port of this machine until it is stopped."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.script = Script()
        self._pool = futures.ThreadPoolExecutor(max_workers=8)
        self._server = grpc.server(self._pool)
        features = serving_pb2_grpc.FeatureServiceServicer()
        setattr(features, "GetFeatures", self.script.unary("GetFeatures"))
        setattr(features, "GetTrainingSet", self.script.stream("GetTrainingSet"))
        serving_pb2_grpc.add_FeatureServiceServicer_to_server(features, self._server)
        ingest = ingest_pb2_grpc.IngestServiceServicer()
        setattr(ingest, "Publish", self.script.stream("Publish"))
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(ingest, self._server)
        catalog = catalog_pb2_grpc.CatalogServiceServicer()
        setattr(catalog, "ApplyCatalog", self.script.unary("ApplyCatalog"))
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, self._server)
        admin = admin_pb2_grpc.AdminServiceServicer()
        setattr(admin, "GetStatus", self.script.unary("GetStatus"))
        admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, self._server)
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        scheme = "http" if credentials is None else "https"
        #: Where it listens.
        self.endpoint = f"{scheme}://127.0.0.1:{port}"
        self._server.start()

    def on(self, name: str, handler: Callable[..., Any]) -> None:
        """See `Script.on`."""
        self.script.on(name, handler)

    def stop(self) -> None:
        """Ends every call."""
        self._server.stop(grace=None).wait()
        self._pool.shutdown(wait=False)
