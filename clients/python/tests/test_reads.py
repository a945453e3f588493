"""Online reads against a server whose answers are written here."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import grpc
import millrace
import pyarrow as pa
import pytest
from fake_server import FakeServer, Refusal, broken
from google.protobuf.timestamp_pb2 import Timestamp
from millrace.v1 import serving_pb2, value_pb2

AT = datetime(2024, 3, 1, 11, tzinfo=timezone.utc)


def value(**kind: Any) -> value_pb2.FeatureValue:
    return value_pb2.FeatureValue(**kind)


def answer_to(request: serving_pb2.GetFeaturesRequest) -> serving_pb2.GetFeaturesResponse:
    """The sum of a key's integer parts as `total`, at the instant asked for."""
    at = request.at if request.HasField("at") else Timestamp(seconds=1_709_290_800, nanos=5_000)
    answer = serving_pb2.GetFeaturesResponse(at=at, catalog_version=3)
    answer.features.add(name="total").window.end.CopyFrom(at)
    for entity in request.entities:
        total = sum(part.int64 for part in entity.parts)
        found = answer.entities.add(final=True, version=f"v{total}")
        found.values.append(value(int64=total))
        found.statuses.append(value_pb2.VALUE_STATUS_PRESENT)
        found.known_at.seconds = 2_000_000_000 - total
    return answer


class Reads:
    """Answers and remembers the requests."""

    def __init__(self, server: FakeServer, *failures: Refusal) -> None:
        self.requests: list[serving_pb2.GetFeaturesRequest] = []
        self.times: list[float] = []
        self.failures = list(failures)
        server.on("GetFeatures", self.answer)

    def answer(self, request: serving_pb2.GetFeaturesRequest, context: Any) -> Any:
        self.requests.append(request)
        self.times.append(time.monotonic())
        if self.failures:
            raise self.failures.pop(0)
        return answer_to(request)


def test_more_keys_than_a_call_takes_are_read_at_one_instant(
    server: FakeServer, client: millrace.Client
) -> None:
    reads = Reads(server)
    features = client.get_features("view", range(2_500), at="latest")
    assert [len(r.entities) for r in reads.requests] == [1_000, 1_000, 500]
    assert reads.requests[0].moment == serving_pb2.MOMENT_LATEST
    assert {r.WhichOneof("instant") for r in reads.requests[1:]} == {"at"}
    assert {r.at.nanos for r in reads.requests[1:]} == {5_000}
    assert features.to_dict() == {key: {"total": key} for key in range(2_500)}
    assert features.at == AT + timedelta(microseconds=5)
    # The least of all rows.
    assert features.known_at == datetime.fromtimestamp(2_000_000_000 - 2_499, timezone.utc)
    assert features.final and not features.rebuilding
    assert features.watermark is None
    assert features[7].version == "v7"


def test_keys_and_instants_are_what_python_has(
    server: FakeServer, client: millrace.Client
) -> None:
    reads = Reads(server)
    client.get_features("view", [(1, "a"), "b"], at=AT.astimezone(timezone(timedelta(hours=5))))
    kinds = [[part.WhichOneof("kind") for part in e.parts] for e in reads.requests[0].entities]
    assert kinds == [["int64", "string"], ["string"]]
    assert reads.requests[0].at.ToMicroseconds() == 1_709_290_800_000_000
    client.get_features("view", [1], at=-1, known_at=1_709_290_800_000_001)
    at, known_at = reads.requests[1].at, reads.requests[1].known_at
    assert (at.seconds, at.nanos, known_at.nanos) == (-1, 999_999_000, 1_000)
    client.get_features("view", [1])
    assert reads.requests[2].moment == serving_pb2.MOMENT_NOW


@pytest.mark.parametrize(
    ("keys", "given", "field"),
    [
        ([True], {}, "keys"),
        ([1.5], {}, "keys"),
        ([""], {}, "keys"),
        ([()], {}, "keys"),
        ([2**63], {}, "keys"),
        ("abc", {}, "keys"),
        ([1], {"features": "abc"}, "features"),
        ([1], {"at": "yesterday"}, "at"),
        ([1], {"at": datetime(2024, 3, 1)}, "at"),
        ([1], {"known_at": 1.5}, "known_at"),
    ],
)
def test_what_cannot_be_asked_is_named(
    client: millrace.Client, keys: list[Any], given: dict[str, Any], field: str
) -> None:
    with pytest.raises(millrace.InvalidInput) as caught:
        client.get_features("view", keys, **given)
    assert caught.value.field == field


def test_values_of_every_kind_become_python_and_arrow(
    server: FakeServer, client: millrace.Client
) -> None:
    instant = Timestamp(seconds=-1, nanos=999_999_000)
    some = value_pb2.Value(string="x")
    kinds = {
        "yes": value(bool=True),
        "whole": value(int64=-(2**63)),
        "real": value(double=0.1),
        "text": value(string="ä"),
        "raw": value(bytes=b"\0"),
        "instant": value(timestamp=instant),
        "listed": value(list=value_pb2.ValueList(values=[some, value_pb2.Value()])),
        "counted": value(
            counted=value_pb2.CountedValueList(
                values=[value_pb2.CountedValue(value=some, count=2)]
            )
        ),
        "empty": value(list=value_pb2.ValueList()),
        "nothing": value(),
    }

    def answer(request: Any, context: Any) -> serving_pb2.GetFeaturesResponse:
        made = serving_pb2.GetFeaturesResponse(changelogs=["a", "b"])
        made.entities.add(version="1:2")
        made.entities[0].versions.add(id="a7").valid_from.CopyFrom(instant)
        made.entities[0].versions.add()
        for name, found in kinds.items():
            made.features.add(name=name)
            made.entities[0].values.append(found)
            made.entities[0].statuses.append(value_pb2.VALUE_STATUS_PRESENT)
        return made

    server.on("GetFeatures", answer)
    features = client.get_features("view", [("k", 1)])
    row = features[("k", 1)]
    just_before = datetime(1969, 12, 31, 23, 59, 59, 999_999, timezone.utc)
    assert row.values == {
        "yes": True,
        "whole": -(2**63),
        "real": 0.1,
        "text": "ä",
        "raw": b"\0",
        "instant": just_before,
        "listed": ["x", None],
        "counted": [millrace.Counted("x", 2)],
        "empty": [],
        "nothing": None,
    }
    assert row.statuses["yes"] is millrace.ValueStatus.PRESENT
    assert row.versions == {"a": millrace.VersionUsed(just_before, "a7"), "b": None}
    table = features.to_arrow(schema=pa.schema({"view.nothing": pa.float64()}))
    assert table.schema.names == ["key_1", "key_2", *kinds]
    types = {name: str(table.schema.field(name).type) for name in kinds}
    assert types == {
        "yes": "bool",
        "whole": "int64",
        "real": "double",
        "text": "string",
        "raw": "binary",
        "instant": "timestamp[us, tz=UTC]",
        "listed": "list<item: string>",
        "counted": "list<item: struct<value: string, count: int64>>",
        "empty": "list<item: null>",
        "nothing": "double",
    }
    assert table.to_pylist()[0]["counted"] == [{"value": "x", "count": 2}]
    assert table.to_pylist()[0]["instant"] == just_before
    assert list(features.to_pandas()["real"]) == [0.1]
    assert features.to_arrow(key_names=()).schema.names == list(kinds)


def test_a_read_is_made_again_when_the_server_says_so(
    server: FakeServer, client: millrace.Client
) -> None:
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    reads = Reads(
        server,
        broken(),
        Refusal(grpc.StatusCode.UNAVAILABLE, "NOT_SERVING", retry_after=0.1),
        Refusal(exhausted, "OVERLOADED", retry_after=0.3),
    )
    assert client.get_features("view", [5])[5].values == {"total": 5}
    waited = [after - before for before, after in zip(reads.times, reads.times[1:])]
    assert len(waited) == 3
    assert waited[1] >= 0.1
    assert waited[2] >= 0.3


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Refusal(grpc.StatusCode.UNAVAILABLE, "HOP_NOT_TRUSTED"), millrace.Unavailable),
        (Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "READ_BUDGET_SPENT"),
         millrace.ResourceExhausted),
        (Refusal(grpc.StatusCode.NOT_FOUND, "VIEW_NOT_FOUND"), millrace.NotFound),
        (Refusal(grpc.StatusCode.OUT_OF_RANGE, "KNOWN_AT_AHEAD"), millrace.OutOfRange),
        (Refusal(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"), millrace.Unauthenticated),
        (Refusal(grpc.StatusCode.DATA_LOSS, "STORE_DAMAGED"), millrace.Refused),
        (Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
         millrace.DeadlineExceeded),
        (Refusal(grpc.StatusCode.DEADLINE_EXCEEDED), millrace.DeadlineExceeded),
    ],
)
def test_what_does_not_pass_is_not_asked_again(
    server: FakeServer, client: millrace.Client, refusal: Refusal, kind: type[Exception]
) -> None:
    reads = Reads(server, refusal)
    with pytest.raises(kind) as caught:
        client.get_features("view", [5])
    assert len(reads.requests) == 1
    assert isinstance(caught.value, millrace.MillraceError)
    if isinstance(caught.value, millrace.Refused):
        assert caught.value.reason == refusal.message


def test_a_refusal_carries_what_the_server_said(
    server: FakeServer, client: millrace.Client
) -> None:
    refusal = Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "the request is wrong",
        violations=[("entities[2].parts", "must not be empty"), ("view", "must be set")],
        metadata={"slot": "3"},
    )
    Reads(server, refusal)
    with pytest.raises(millrace.InvalidArgument) as caught:
        client.get_features("view", [5])
    error = caught.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "INVALID_ARGUMENT"
    assert error.metadata == {"slot": "3"}
    assert error.violations[1] == millrace.Violation("view", "must be set")
    assert str(error) == (
        "the request is wrong; entities[2].parts: must not be empty; view: must be set"
    )


def test_a_call_takes_no_longer_than_it_may(server: FakeServer) -> None:
    busy = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_after=60.0)
    reads = Reads(server, busy)
    with millrace.Client(server.endpoint, timeout=5.0) as client:
        # It would have to wait for longer than there is: the reason is told at once.
        with pytest.raises(millrace.ResourceExhausted) as caught:
            client.get_features("view", [5])
    assert caught.value.retry_after == 60.0
    assert len(reads.requests) == 1


def test_an_address_at_which_nobody_answers_is_told(server: FakeServer) -> None:
    server.stop()
    with millrace.Client(server.endpoint, timeout=0.5) as client:
        with pytest.raises(millrace.NotReachable, match="feature-serving at http://127") as caught:
            client.get_features("view", [5])
    assert isinstance(caught.value, ConnectionError)


def test_addresses_take_turns_and_one_that_is_gone_is_passed_over(server: FakeServer) -> None:
    reads = Reads(server)
    gone = FakeServer()
    gone.stop()
    with millrace.Client(serving=[gone.endpoint, server.endpoint], timeout=20.0) as client:
        for key in range(4):
            assert client.get_features("view", [key])[key].values == {"total": key}
    assert len(reads.requests) == 4


def test_a_client_that_was_closed_says_so(client: millrace.Client) -> None:
    client.close()
    with pytest.raises(millrace.MillraceError, match="closed"):
        client.get_features("view", [5])


def test_an_answer_that_is_not_whole_is_refused(
    server: FakeServer, client: millrace.Client
) -> None:
    server.on("GetFeatures", lambda request, context: serving_pb2.GetFeaturesResponse())
    with pytest.raises(millrace.ProtocolError, match="0 of 1 entities"):
        client.get_features("view", [5])
