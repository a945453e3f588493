"""Training sets from a server whose answers and breaks are written here."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import grpc
import millrace
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from fake_server import FakeServer, Refusal, broken
from google.protobuf.timestamp_pb2 import Timestamp
from millrace import _training_call
from millrace.v1 import serving_pb2

Requests = Iterator[serving_pb2.GetTrainingSetRequest]
Responses = Iterator[serving_pb2.GetTrainingSetResponse]

AT = datetime(2024, 3, 1, 11, tzinfo=timezone.utc)
FEATURES = pa.schema({"double_key": pa.int64(), "text": pa.string()})
EVENTS = pa.schema({"user": pa.int64(), "at": pa.timestamp("us", "UTC"), "id": pa.string()})
EVENT_COLUMNS = pa.schema([*EVENTS, *FEATURES])
#: How many events the fake has.
EVENT_COUNT = 25


def header(schema: pa.Schema, version: str = "v1") -> serving_pb2.GetTrainingSetResponse:
    made = serving_pb2.GetTrainingSetResponse()
    made.header.version = version
    made.header.catalog_version = 3
    made.header.known_at.CopyFrom(Timestamp(seconds=1_709_290_800))
    made.header.schema_arrow_ipc = schema.serialize().to_pybytes()
    return made


def rows(batch: pa.RecordBatch, first: int, cursor: str = "") -> serving_pb2.GetTrainingSetResponse:
    made = serving_pb2.GetTrainingSetResponse()
    made.rows.arrow_ipc = batch.serialize().to_pybytes()
    made.rows.first_row = first
    made.rows.rows = batch.num_rows
    made.rows.cursor = cursor
    return made


def summary(count: int, **more: int) -> serving_pb2.GetTrainingSetResponse:
    counts = serving_pb2.TrainingSetSummary(rows=count, facts_read=2 * count, **more)
    return serving_pb2.GetTrainingSetResponse(summary=counts)


def features_of(keys: list[int]) -> list[pa.Array]:
    return [
        pa.array([2 * key for key in keys], pa.int64()),
        pa.array([str(key) for key in keys], pa.string()),
    ]


class Training:
    """Answers in batches of a few rows, and ends the calls that the test wants ended.

    A call ends once it has answered as many rows as `ends` says for it, with the refusal beside it.
    """

    def __init__(self, server: FakeServer, width: int = 7) -> None:
        self.width = width
        self.ends: list[tuple[int, Refusal]] = []
        self.starts: list[serving_pb2.TrainingSetStart] = []
        self.messages: list[list[pa.RecordBatch]] = []
        self.counts: dict[str, int] = {}
        server.on("GetTrainingSet", self.answer)

    def answer(self, requests: Requests, context: Any) -> Responses:
        start = next(requests).start
        self.starts.append(start)
        end = self.ends.pop(0) if self.ends else None
        if end is not None and end[0] < 0:
            raise end[1]
        is_events = start.HasField("events")
        yield header(EVENT_COLUMNS if is_events else FEATURES)
        done = 0
        parts = self.events(start.cursor) if is_events else self.spine(requests)
        for batch, cursor in parts:
            if end is not None and done + batch.num_rows > end[0]:
                raise end[1]
            yield rows(batch, done, cursor)
            done += batch.num_rows
        if end is not None:
            raise end[1]
        yield summary(done, **self.counts)

    def spine(self, requests: Requests) -> Iterator[tuple[pa.RecordBatch, str]]:
        seen: list[pa.RecordBatch] = []
        self.messages.append(seen)
        schema: pa.Schema | None = None
        waiting: list[int] = []
        for request in requests:
            for message in pa.ipc.MessageReader.open_stream(io.BytesIO(request.spine_arrow_ipc)):
                if message.type == "schema":
                    assert schema is None
                    schema = pa.ipc.read_schema(message)
                    continue
                batch = pa.ipc.read_record_batch(message, schema)
                assert 0 < batch.num_rows <= 65_536
                seen.append(batch)
                waiting += batch.column("user").to_pylist()
            # Rows of messages run into each other, as those of a block of a server's do.
            while len(waiting) >= self.width:
                yield self.batch(waiting[: self.width]), ""
                waiting = waiting[self.width :]
        assert schema is not None
        if waiting:
            yield self.batch(waiting), ""

    def events(self, cursor: str) -> Iterator[tuple[pa.RecordBatch, str]]:
        for start in range(int(cursor or 0), EVENT_COUNT, self.width):
            keys = list(range(start, min(start + self.width, EVENT_COUNT)))
            ids = pa.array([f"e{key}" for key in keys])
            columns = [pa.array(keys), pa.array(keys).cast(EVENTS.field("at").type), ids]
            batch = pa.RecordBatch.from_arrays(
                columns + features_of(keys), schema=EVENT_COLUMNS
            )
            yield batch, str(start + len(keys))

    def batch(self, keys: list[int]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(features_of(keys), schema=FEATURES)


@pytest.fixture
def training(server: FakeServer) -> Training:
    return Training(server)


def spine_of(count: int) -> pa.Table:
    return pa.table(
        {
            "label": pa.array([key % 3 == 0 for key in range(count)]),
            "user": pa.array(range(count), pa.int32()),
            "at": pa.array([AT] * count, pa.timestamp("ms", "Europe/Berlin")),
            "weight": pa.array([key / 2 for key in range(count)]),
        }
    )


def batches_of(table: pa.Table, size: int, read: list[int]) -> pa.RecordBatchReader:
    """Its rows in batches; `read` grows as they are read."""

    def source() -> Iterator[pa.RecordBatch]:
        for batch in table.to_batches(max_chunksize=size):
            read.append(batch.num_rows)
            yield batch

    return pa.RecordBatchReader.from_batches(table.schema, source())


def check(table: pa.Table, count: int) -> None:
    """Every row of the spine as it was, with its features."""
    assert table.schema.names == ["label", "user", "at", "weight", "double_key", "text"]
    assert table.select(spine_of(count).schema.names).equals(spine_of(count))
    assert table["double_key"].to_pylist() == [2 * key for key in range(count)]
    assert table["text"].to_pylist() == [str(key) for key in range(count)]


def test_labels_stay_here_and_features_come_behind(
    training: Training, client: millrace.Client
) -> None:
    found = client.training_set("view", spine=spine_of(20), known_at=AT, features=["double_key"])
    assert found.summary is None
    assert (found.version, found.catalog_version, found.known_at) == ("v1", 3, AT)
    assert found.watermark is None
    table = found.to_arrow()
    check(table, 20)
    assert found.summary == millrace.TrainingSummary(
        rows=20, counted_rows=20, missing_rows=0, unknown_rows=0, facts_read=40
    )
    start = training.starts[0]
    assert start.WhichOneof("rows") == "spine"
    assert start.instant.seconds == 1_709_290_800
    assert [(v.view, list(v.features)) for v in start.views] == [("view", ["double_key"])]
    # What cannot be a key is not sent; keys are widened.
    assert training.messages[0][0].schema == pa.schema(
        {"user": pa.int64(), "at": pa.timestamp("ms", "Europe/Berlin")}
    )


@pytest.mark.parametrize("form", ["pandas", "polars", "batch", "micros", "categories"])
def test_spines_of_every_kind_are_taken(
    training: Training, client: millrace.Client, form: str
) -> None:
    frame = pd.DataFrame(
        {"user": [1, 2, 3], "at": pd.Timestamp(AT), "kind": ["a", "b", None]},
        index=[7, 8, 9],
    )
    spine = {
        "pandas": lambda: frame,
        "polars": lambda: pl.from_pandas(frame),
        "batch": lambda: pa.RecordBatch.from_pandas(frame, preserve_index=False),
        "micros": lambda: frame.assign(at=1_709_290_800_000_000),
        "categories": lambda: frame.astype({"kind": "category"}),
    }[form]()
    found = client.training_set("view", spine=spine)
    if form == "polars":
        table = found.to_polars()
        assert table["double_key"].to_list() == [2, 4, 6]
        assert table["kind"].to_list() == ["a", "b", None]
    else:
        made = found.to_pandas()
        assert list(made["double_key"]) == [2, 4, 6]
        assert list(made.columns) == ["user", "at", "kind", "double_key", "text"]
        assert list(made.index) == [0, 1, 2]
    sent = training.messages[0][0]
    assert sent.schema.names == ["user", "kind", "at"]
    assert sent.schema.field("kind").type == pa.string()
    assert training.starts[0].WhichOneof("known_at") == "latest"


def test_keys_that_are_named_are_all_that_is_sent(
    training: Training, client: millrace.Client
) -> None:
    spine = spine_of(3).append_column("other", pa.array(["x", "y", "z"]))
    client.training_set("view", spine=spine, keys=["user"]).to_arrow()
    assert training.messages[0][0].schema.names == ["user", "at"]


def test_a_spine_is_sent_as_it_is_answered_and_kept_no_longer(
    server: FakeServer, client: millrace.Client
) -> None:
    """A server that reads no further holds the source back."""
    release = threading.Event()
    fake = Training(server, width=1_000)

    def answer(requests: Requests, context: Any) -> Responses:
        # One start and one message of the spine; then nothing until the test goes on.
        def some() -> Requests:
            for taken, request in enumerate(requests):
                yield request
                if taken == 1:
                    release.wait(timeout=60)

        return fake.answer(some(), context)

    server.on("GetTrainingSet", answer)
    count, size = 2_000_000, 20_000
    keys = pa.array(range(size), pa.int64())
    batch = pa.RecordBatch.from_arrays([keys, keys], names=["user", "at"])
    read: list[int] = []

    def source() -> Iterator[pa.RecordBatch]:
        for _ in range(count // size):
            read.append(size)
            yield batch

    spine = pa.RecordBatchReader.from_batches(batch.schema, source())
    found = client.training_set("view", spine=spine)
    reader = found.reader
    first = reader.read_next_batch()
    assert first.num_rows == 1_000
    # What fits the transport between both, 320 KiB a message, and not 32 MB.
    assert len(read) < count // size // 2
    release.set()
    assert sum(batch.num_rows for batch in reader) == count - 1_000


def test_answers_are_taken_while_the_source_is_read(
    training: Training, client: millrace.Client
) -> None:
    """A source may wait for what became of its first rows."""
    answered = threading.Event()
    table = spine_of(20)

    def source() -> Iterator[pa.RecordBatch]:
        yield table.slice(0, 7).to_batches()[0]
        assert answered.wait(timeout=60)
        yield table.slice(7).to_batches()[0]

    spine = pa.RecordBatchReader.from_batches(table.schema, source())
    reader = client.training_set("view", spine=spine).reader
    first = reader.read_next_batch()
    answered.set()
    check(pa.Table.from_batches([first, *reader]), 20)


@pytest.mark.parametrize("seen", [0, 7, 49])
def test_a_call_that_breaks_is_taken_up_where_it_was(
    training: Training, client: millrace.Client, seen: int
) -> None:
    aged = Refusal(grpc.StatusCode.UNAVAILABLE, "STREAM_AGED", retry_after=0.01)
    training.ends = [(-1, broken()), (seen, broken()), (7, aged), (-1, broken())]
    read: list[int] = []
    found = client.training_set("view", spine=batches_of(spine_of(100), 10, read))
    check(found.to_arrow(), 100)
    assert len(read) == 10
    assert [start.version for start in training.starts] == ["", "", "v1", "v1", "v1"]
    before = [start.spine.rows_before for start in training.starts]
    assert before == [0, 0, seen, seen + 7, seen + 7]
    answered = [seen, 7]
    missing = [100 - sum(answered[:i]) for i in range(3)]
    sent = [sum(batch.num_rows for batch in call) for call in training.messages]
    assert sent[-1] == missing[-1]
    assert all(count <= most for count, most in zip(sent, missing))
    assert found.summary is not None
    assert (found.summary.rows, found.summary.counted_rows) == (100, missing[-1])


def test_events_are_taken_up_by_their_cursor(
    training: Training, client: millrace.Client
) -> None:
    training.ends = [(14, broken()), (0, broken())]
    found = client.training_set("view", events=True, from_=AT, to=AT, known_at="at_event")
    table = found.to_arrow()
    assert table.schema == EVENT_COLUMNS
    assert table["user"].to_pylist() == list(range(EVENT_COUNT))
    assert [start.cursor for start in training.starts] == ["", "14", "14"]
    assert [start.version for start in training.starts] == ["", "v1", "v1"]
    start = training.starts[0]
    assert getattr(start.events, "from").seconds == start.events.to.seconds == 1_709_290_800
    assert start.WhichOneof("known_at") == "at_event"


def test_calls_that_break_without_a_row_are_given_up(
    server: FakeServer, client: millrace.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_training_call, "ATTEMPTS", 3)
    fake = Training(server)
    refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "NOT_SERVING", retry_after=0.001)
    fake.ends = [(7, broken())] * 2 + [(0, refusal)] * 100
    found = client.training_set("view", spine=spine_of(20))
    with pytest.raises(millrace.Unavailable) as caught:
        found.to_arrow()
    assert caught.value.reason == "NOT_SERVING"
    # The first two had rows before they broke; then three more are tried.
    assert len(fake.starts) == 2 + 3


def test_an_earlier_set_is_asked_for_by_its_version(
    training: Training, client: millrace.Client
) -> None:
    client.training_set("view", spine=spine_of(3), version="v1").to_arrow()
    assert training.starts[0].version == "v1"


def test_a_call_that_goes_on_with_another_set_is_refused(
    server: FakeServer, client: millrace.Client
) -> None:
    versions = iter(["v1", "v2"])

    def answer(requests: Requests, context: Any) -> Responses:
        yield header(FEATURES, next(versions))
        raise broken()

    server.on("GetTrainingSet", answer)
    with pytest.raises(millrace.ProtocolError, match="another training set"):
        client.training_set("view", spine=spine_of(3)).to_arrow()


def test_without_a_summary_it_is_not_whole(server: FakeServer, client: millrace.Client) -> None:
    keys = list(range(3))

    def answers(*parts: Any) -> Any:
        def answer(requests: Requests, context: Any) -> Responses:
            for _ in requests:
                pass
            yield from parts

        return answer

    batch = pa.RecordBatch.from_arrays(features_of(keys), schema=FEATURES)
    first, all_rows = header(FEATURES), rows(batch, 0)
    for parts, problem in [
        ([], "did not begin with its header"),
        ([summary(0)], "did not begin with its header"),
        ([first, all_rows], "without its summary"),
        ([first, summary(0)], "before every row of the spine"),
        ([first, all_rows, summary(4)], "3 rows came, said to be 4"),
        ([first, rows(batch, 1)], "came after 0 rows"),
        ([first, all_rows, rows(batch, 3)], "never sent"),
        ([first, first], "went on with header"),
        ([first, all_rows, summary(3), all_rows], "behind its summary"),
    ]:
        server.on("GetTrainingSet", answers(*parts))
        with pytest.raises(millrace.ProtocolError, match=problem):
            client.training_set("view", spine=spine_of(3)).to_arrow()


def test_a_spine_without_rows_gives_the_columns(
    training: Training, client: millrace.Client
) -> None:
    found = client.training_set("view", spine=spine_of(0))
    check(found.to_arrow(), 0)
    assert found.summary is not None
    assert found.summary.rows == 0


def test_history_that_was_not_known_by_then_is_warned_of(
    training: Training, client: millrace.Client
) -> None:
    training.counts = {"missing_rows": 5, "unknown_rows": 4}
    found = client.training_set("view", spine=spine_of(5), known_at="at_event")
    with pytest.warns(millrace.UnknownHistoryWarning, match="4 of 5 rows have facts"):
        found.to_arrow()
    assert found.summary is not None
    assert (found.summary.missing_rows, found.summary.unknown_rows) == (5, 4)


def test_unknown_rows_are_told_of_all_rows_of_all_views(
    training: Training, client: millrace.Client
) -> None:
    """They are counted once for each view, and since the last break."""
    training.counts = {"unknown_rows": 8}
    found = client.training_set(["one", "two"], spine=spine_of(5), known_at="at_event")
    with pytest.warns(millrace.UnknownHistoryWarning, match="8 of 10 rows, counted once for each"):
        found.to_arrow()
    training.ends = [(7, broken())]
    found = client.training_set("view", spine=spine_of(20), known_at="at_event")
    with pytest.warns(millrace.UnknownHistoryWarning, match="8 of 13 rows since a call broke have"):
        found.to_arrow()


def test_an_error_of_the_source_is_raised_as_it_is(
    training: Training, client: millrace.Client
) -> None:
    table = spine_of(20)

    def source() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches()
        raise KeyError("no more")

    spine = pa.RecordBatchReader.from_batches(table.schema, source())
    with pytest.raises(KeyError, match="no more"):
        client.training_set("view", spine=spine).to_arrow()


def test_a_refusal_is_raised_before_anything_is_read(
    training: Training, client: millrace.Client
) -> None:
    training.ends = [(-1, Refusal(grpc.StatusCode.NOT_FOUND, "VIEW_NOT_FOUND"))]
    with pytest.raises(millrace.NotFound):
        client.training_set("view", spine=spine_of(3))


def test_a_set_that_was_closed_is_not_read_on(
    training: Training, client: millrace.Client
) -> None:
    with client.training_set("view", events=True) as found:
        reader = found.reader
        reader.read_next_batch()
    with pytest.raises(millrace.MillraceError, match="closed"):
        for _ in reader:
            pass


def test_a_set_is_read_once(training: Training, client: millrace.Client) -> None:
    found = client.training_set("view", events=True)
    assert found.to_arrow().num_rows == EVENT_COUNT
    with pytest.raises(millrace.MillraceError, match="read once"):
        found.to_pandas()


def test_columns_of_spine_and_features_are_told_apart(
    training: Training, client: millrace.Client
) -> None:
    spine = spine_of(3).append_column("text", pa.array([1.0, 2.0, 3.0]))
    with pytest.raises(millrace.InvalidInput, match=r"\['text'\], and so have the features"):
        client.training_set("view", spine=spine)


NAIVE = pa.array([1], pa.timestamp("us"))


@pytest.mark.parametrize(
    ("spine", "given", "rule"),
    [
        (5, {}, "spine: a int is no table"),
        (pa.table({"user": [1]}), {}, "needs a column 'at'"),
        (pa.table({"user": [1], "at": NAIVE}), {}, "has no time zone"),
        (pa.table({"user": [1], "at": ["x"]}), {}, "column 'at' is string"),
        (pa.table({"user": [1.5], "at": [1]}), {}, "a column for each key"),
        (pa.table([[1], [1], [1]], names=["a", "a", "at"]), {}, r"\['a'\] more than once"),
        (pa.table({"user": [1], "at": [1]}), {"keys": ["item"]}, "no column 'item'"),
        (pa.table({"user": [1.5], "at": [1]}), {"keys": ["user"]}, "integers or strings"),
        (None, {}, "either a spine or events"),
        (pa.table({"user": [1], "at": [1]}), {"events": True}, "either a spine or events"),
        (pa.table({"user": [1], "at": [1]}), {"to": 1}, "from_ and to are for events"),
        (None, {"events": True, "view": ["a", "b"]}, "name a single one"),
        (None, {"events": True, "known_at": "then"}, "known_at: 'then' is none of"),
        (None, {"events": True, "known_at": datetime(2024, 1, 1)}, "no time zone"),
        (None, {"events": True, "features": "a"}, "must be a list"),
        (None, {"events": True, "features": {"b": ["a"]}}, r"names the views \['b'\]"),
        (
            pa.table({"user": [1], "at": [1]}),
            {"view": ["a", "b"], "features": ["c"]},
            "given by view",
        ),
    ],
)
def test_what_cannot_be_asked_is_named(
    client: millrace.Client, spine: Any, given: dict[str, Any], rule: str
) -> None:
    with pytest.raises(millrace.InvalidInput, match=rule):
        client.training_set(**{"view": "view", "spine": spine, **given})


def test_several_views_are_joined_to_the_same_rows(
    training: Training, client: millrace.Client
) -> None:
    client.training_set(["a", "b"], spine=spine_of(3), features={"b": ["x", "y"]}).to_arrow()
    found = [(view.view, list(view.features)) for view in training.starts[0].views]
    assert found == [("a", []), ("b", ["x", "y"])]


def test_a_set_that_nobody_holds_ends_its_call(
    server: FakeServer, client: millrace.Client
) -> None:
    ended = threading.Event()

    def answer(requests: Requests, context: Any) -> Responses:
        context.add_callback(ended.set)
        yield header(FEATURES)
        # Waits for a spine that never ends.
        for _ in requests:
            pass

    server.on("GetTrainingSet", answer)
    batch = pa.RecordBatch.from_pydict({"user": [1], "at": [1]})
    spine = pa.RecordBatchReader.from_batches(batch.schema, itertools.repeat(batch))
    found = client.training_set("view", spine=spine)
    assert not ended.is_set()
    del found
    assert ended.wait(timeout=60)
