"""Publishing to a server whose credits and breaks are written here."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import grpc
import millrace
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from fake_server import FakeServer, Refusal, broken
from millrace.v1 import fact_pb2, ingest_pb2

Requests = Iterator[ingest_pb2.PublishRequest]
Responses = Iterator[ingest_pb2.PublishResponse]


def credits_of(facts: int, size: int = 16 << 20) -> ingest_pb2.PublishResponse:
    return ingest_pb2.PublishResponse(credits=ingest_pb2.Credits(facts=facts, bytes=size))


class Ingest:
    """Keeps what it is sent, and ends the calls that the test wants ended.

    A call ends after so many answers as `ends` says for it, with the refusal beside it.
    """

    def __init__(self, server: FakeServer, facts: int = 1 << 20) -> None:
        self.facts = facts
        self.ends: list[tuple[int, Refusal]] = []
        self.calls: list[list[ingest_pb2.PublishRequest]] = []
        #: Facts by sequence, as they were answered.
        self.kept: dict[int, dict[str, Any]] = {}
        server.on("Publish", self.publish)

    def publish(self, requests: Requests, context: Any) -> Responses:
        end = self.ends.pop(0) if self.ends else None
        seen: list[ingest_pb2.PublishRequest] = []
        self.calls.append(seen)
        schema = b""
        yield credits_of(self.facts)
        for request in requests:
            seen.append(request)
            rows, schema = rows_of(request, schema)
            if end is not None and len(seen) > end[0]:
                raise end[1]
            duplicate = sum(request.first_sequence + i in self.kept for i in range(len(rows)))
            for index, row in enumerate(rows):
                self.kept[request.first_sequence + index] = row
            answer = credits_of(self.facts)
            answer.result.first_sequence = request.first_sequence
            answer.result.next_sequence = request.next_sequence
            answer.result.counts.accepted = len(rows) - duplicate
            answer.result.counts.duplicate = duplicate
            yield answer


def rows_of(
    request: ingest_pb2.PublishRequest, schema: bytes
) -> tuple[list[dict[str, Any]], bytes]:
    """The facts of a request, and the schema for the next one."""
    if not request.arrow_ipc:
        return [dict(row.values) for row in request.rows], schema
    reader = pa.ipc.MessageReader.open_stream(io.BytesIO(request.arrow_ipc))
    rows: list[dict[str, Any]] = []
    for message in reader:
        if message.type == "schema":
            schema = message.serialize().to_pybytes()
        else:
            kind = pa.ipc.read_schema(pa.py_buffer(schema))
            rows += pa.ipc.read_record_batch(message, kind).to_pylist()
    return rows, schema


@pytest.fixture
def ingest(server: FakeServer) -> Ingest:
    return Ingest(server)


@pytest.mark.parametrize("form", ["arrow", "batch", "pandas", "polars", "dicts", "categories"])
def test_rows_of_every_kind_arrive(ingest: Ingest, client: millrace.Client, form: str) -> None:
    columns = {"user": [1, 2, 3], "item": ["a", None, "c"]}
    table = pa.table(columns)
    rows = {
        "arrow": lambda: table,
        "batch": lambda: table.to_batches()[0],
        "pandas": lambda: pd.DataFrame(columns),
        "polars": lambda: pl.DataFrame(columns),
        "dicts": lambda: table.to_pylist(),
        "categories": lambda: pd.DataFrame(columns).astype({"item": "category"}),
    }[form]()
    published = client.publish("clicks", rows)
    assert (published.sent, published.accepted, published.next_sequence) == (3, 3, 3)
    assert published.is_clean
    found = [ingest.kept[sequence] for sequence in range(3)]
    if form == "dicts":
        assert [row["user"].int64 for row in found] == [1, 2, 3]
        assert [row["item"].string for row in found] == ["a", "", "c"]
        assert found[1]["item"].WhichOneof("kind") is None
    else:
        assert found == table.to_pylist()
    # The last request says that no more comes for now.
    assert [request.idle for request in ingest.calls[0]] == [False, True]
    again = client.publish("clicks", rows)
    assert (again.producer, again.duplicate) == (published.producer, 3)


def table_of(rows: int) -> pa.Table:
    return pa.table({"id": pa.array(range(rows)), "text": ["x" * 100] * rows})


def test_a_large_table_is_cut_and_its_schema_sent_once(
    ingest: Ingest, client: millrace.Client
) -> None:
    published = client.publish("clicks", table_of(60_000), producer="p", first_sequence=7)
    assert published == millrace.Published(
        producer="p", stream="clicks", next_sequence=60_007, sent=60_000, accepted=60_000
    )
    assert [ingest.kept[7 + i]["id"] for i in range(60_000)] == list(range(60_000))
    requests = ingest.calls[0]
    assert len(requests) > 4
    assert max(request.ByteSize() for request in requests) < 2 << 20
    assert {request.producer_id for request in requests} == {"p"}
    follow = [r.first_sequence for r in requests[1:]]
    assert [r.next_sequence for r in requests[:-1]] == follow


def test_no_more_is_in_flight_than_the_credits_allow(
    server: FakeServer, client: millrace.Client
) -> None:
    """The server answers only once nothing more can come; no more is read than it lets come."""
    widths: list[int] = []
    read: list[int] = []
    read_by_then: list[int] = []

    def publish(requests: Requests, context: Any) -> Responses:
        held: list[ingest_pb2.PublishRequest] = []
        # The credits admit two requests of 10 rows, the third waits.
        yield credits_of(25)
        for request in requests:
            held.append(request)
            facts = sum(r.next_sequence - r.first_sequence for r in held)
            if facts < 20 and not request.idle:
                continue
            widths.append(facts)
            read_by_then.append(len(read))
            for answered in held:
                answer = credits_of(25)
                answer.result.first_sequence = answered.first_sequence
                answer.result.next_sequence = answered.next_sequence
                yield answer
            held = []

    server.on("Publish", publish)
    def source() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            read.append(batch.num_rows)
            yield batch

    batches = table_of(60).to_batches(max_chunksize=10)
    rows = pa.RecordBatchReader.from_batches(batches[0].schema, source())
    client.publish("clicks", rows, producer="p")
    assert widths == [20, 20, 20, 0]
    # Two in flight, and one that waits.
    assert read_by_then[0] <= 3
    assert read_by_then[1] <= 5


def test_nothing_is_sent_before_credits_are_granted(
    server: FakeServer, client: millrace.Client
) -> None:
    came: list[bool] = []

    def publish(requests: Requests, context: Any) -> Responses:
        yield credits_of(0)
        yield credits_of(5, 0)
        yield credits_of(5)
        for request in requests:
            came.append(request.idle)
            answer = credits_of(5)
            answer.result.first_sequence = request.first_sequence
            answer.result.next_sequence = request.next_sequence
            yield answer

    server.on("Publish", publish)
    # More facts than the credits: alone, they may go.
    client.publish("clicks", table_of(8), producer="p")
    assert came == [False, True]


def test_a_call_that_breaks_is_taken_up_with_what_was_not_answered(
    ingest: Ingest, client: millrace.Client
) -> None:
    aged = Refusal(grpc.StatusCode.UNAVAILABLE, "STREAM_AGED", retry_after=0.01)
    ingest.ends = [(2, broken()), (0, aged), (1, broken())]
    batches = table_of(50).to_batches(max_chunksize=10)
    read: list[int] = []

    def source() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            read.append(batch.num_rows)
            yield batch

    rows = pa.RecordBatchReader.from_batches(batches[0].schema, source())
    published = client.publish("clicks", rows, producer="p")
    assert (published.sent, published.accepted) == (50, 50)
    assert [ingest.kept[i]["id"] for i in range(50)] == list(range(50))
    assert len(read) == 5
    firsts = [[request.first_sequence for request in call] for call in ingest.calls]
    # Each call begins with the oldest request without an answer, and with its schema.
    assert [call[0] for call in firsts] == [0, 20, 20, 30]
    assert firsts[3] == [30, 40, 50]


def test_what_was_answered_before_a_break_counts_once(
    ingest: Ingest, client: millrace.Client
) -> None:
    ingest.ends = [(1, broken())]
    published = client.publish("clicks", [{"id": i} for i in range(20_000)])
    assert (published.sent, published.accepted, published.duplicate) == (20_000, 20_000, 0)
    assert len(ingest.calls) == 2


def test_a_refusal_that_does_not_pass_is_raised(ingest: Ingest, client: millrace.Client) -> None:
    refusal = Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        "BATCH_INVALID",
        violations=[("arrow_ipc.item", 'column "item" is missing; the catalog names it')],
    )
    ingest.ends = [(0, refusal)]
    with pytest.raises(millrace.InvalidArgument, match="item") as caught:
        client.publish("clicks", table_of(3))
    assert caught.value.reason == "BATCH_INVALID"
    assert len(ingest.calls) == 1


def test_a_server_that_ends_the_call_early_is_asked_again(
    server: FakeServer, client: millrace.Client
) -> None:
    ingest = Ingest(server)
    once = iter([True])

    def publish(requests: Requests, context: Any) -> Responses:
        if next(once, False):
            yield credits_of(10)
            return
        yield from ingest.publish(requests, context)

    server.on("Publish", publish)
    assert client.publish("clicks", table_of(3)).accepted == 3


def test_a_server_that_answers_nothing_is_given_up(server: FakeServer) -> None:
    def publish(requests: Requests, context: Any) -> Responses:
        yield credits_of(10)
        # Takes everything and says nothing, until the client goes.
        yield from (credits_of(10) for request in requests if request.idle)

    server.on("Publish", publish)
    with millrace.Client(server.endpoint, timeout=0.5) as client:
        with pytest.raises(millrace.DeadlineExceeded, match="answered nothing"):
            client.publish("clicks", table_of(100))


def test_an_error_of_the_source_is_raised_once_what_was_read_is_answered(
    ingest: Ingest, client: millrace.Client
) -> None:
    def records() -> Iterator[dict[str, object]]:
        for i in range(20_000):
            yield {"id": i}
        yield {"id": object()}

    with pytest.raises(millrace.InvalidInput, match="id: .* is a object") as caught:
        client.publish("clicks", records(), producer="p")
    assert caught.value.field == "id"
    # Whole batches before the record that is none.
    assert len(ingest.kept) == 16_384


def test_exceptions_are_told_by_row(server: FakeServer, client: millrace.Client) -> None:
    def publish(requests: Requests, context: Any) -> Responses:
        yield credits_of(100)
        for request in requests:
            answer = credits_of(100)
            result = answer.result
            result.first_sequence = request.first_sequence
            result.next_sequence = request.next_sequence
            if not request.idle:
                result.counts.CopyFrom(
                    fact_pb2.VerdictCounts(
                        accepted=1, repaired=1, late=1, rejected=1, queued=1, rows_repaired=9
                    )
                )
                result.exceptions.add(
                    index=1,
                    sequence=request.first_sequence + 1,
                    id="c2",
                    verdict=fact_pb2.VERDICT_REJECTED,
                    reason=fact_pb2.REJECT_REASON_MISSING_KEY,
                    field="user_id",
                    message="is NULL",
                )
                result.exceptions.add(
                    index=2,
                    sequence=request.first_sequence + 2,
                    verdict=fact_pb2.VERDICT_LATE,
                    conflict=True,
                )
                result.exceptions_omitted = 5
            yield answer

    server.on("Publish", publish)
    published = client.publish("clicks", table_of(4), producer="p", first_sequence=40)
    assert not published.is_clean
    assert (published.late, published.rejected, published.rows_repaired) == (1, 1, 9)
    assert (published.repaired, published.queued, published.exceptions_omitted) == (1, 1, 5)
    rejected, late = published.exceptions
    assert rejected == millrace.FactException(
        row=1,
        sequence=41,
        id="c2",
        verdict=millrace.Verdict.REJECTED,
        conflict=False,
        reason="MISSING_KEY",
        field="user_id",
        message="is NULL",
    )
    assert (late.row, late.verdict, late.conflict, late.reason) == (2, "LATE", True, "")


def test_the_protocol_is_held_against_the_server(
    server: FakeServer, client: millrace.Client
) -> None:
    def publish(requests: Requests, context: Any) -> Responses:
        answer = credits_of(100)
        answer.result.next_sequence = 1
        yield answer
        yield from (answer for _ in requests)

    server.on("Publish", publish)
    with pytest.raises(millrace.ProtocolError, match="answered but never sent"):
        client.publish("clicks", table_of(4), producer="p")
