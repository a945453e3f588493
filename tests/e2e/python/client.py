"""Publishes and reads through code generated from the protos; prints what came back as JSON."""

import json
import queue
import sys

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from millrace.v1 import (
    fact_pb2,
    ingest_pb2,
    ingest_pb2_grpc,
    serving_pb2,
    serving_pb2_grpc,
    value_pb2,
)

USER = 8
TIMEOUT_S = 30


def instant(text):
    at = Timestamp()
    at.FromJsonString(text)
    return at


def row(**values):
    return fact_pb2.TypedRow(values=values)


def text(value):
    return value_pb2.Value(string=value)


def integer(value):
    return value_pb2.Value(int64=value)


def timestamp(value):
    return value_pb2.Value(timestamp=instant(value))


def clicks():
    return [
        row(
            event_id=text(f"py-{name}"),
            user_id=integer(USER),
            ts=timestamp(f"2024-03-01T10:0{minute}:00Z"),
            price=value_pb2.Value(double=price),
            category=text(name),
        )
        for name, minute, price in [("a", 1, 1.0), ("b", 2, 2.5), ("c", 3, 3.0)]
    ]


def publish_profile(ingest):
    profile = row(
        version_id=text("py-p"),
        user_id=integer(USER),
        valid_from=timestamp("2024-02-01T00:00:00Z"),
        country=text("CH"),
        tier=integer(1),
    )
    answer = ingest.PublishBatch(
        ingest_pb2.PublishBatchRequest(
            producer_id="python-profiles", stream="profiles", rows=[profile]
        ),
        timeout=TIMEOUT_S,
    )
    assert answer.result.counts.accepted == 1, answer


def publish_on_a_stream(ingest):
    """Waits for credits, sends one batch, and closes the call once it is answered."""
    requests = queue.Queue()
    call = ingest.Publish(iter(requests.get, None), timeout=TIMEOUT_S)
    granted = next(call).credits
    assert granted.facts >= 3 and granted.bytes > 0, granted
    requests.put(
        ingest_pb2.PublishRequest(
            producer_id="python", stream="clicks", first_sequence=0, rows=clicks(), idle=True
        )
    )
    result = next(message.result for message in call if message.HasField("result"))
    requests.put(None)
    return {"accepted": result.counts.accepted, "durable_sequence": result.durable_sequence}


def publish_again(ingest):
    """The same facts by another producer: their ids tell."""
    answer = ingest.PublishBatch(
        ingest_pb2.PublishBatchRequest(producer_id="other", stream="clicks", rows=clicks()),
        timeout=TIMEOUT_S,
    )
    return {"duplicate": answer.result.counts.duplicate}


def request(view, features):
    return serving_pb2.GetFeaturesRequest(
        view=view,
        entities=[value_pb2.EntityKey(parts=[value_pb2.KeyPart(int64=USER)])],
        features=features,
        at=instant("2024-03-01T11:00:00Z"),
    )


def plain(value):
    kind = value.WhichOneof("kind")
    if kind == "list":
        return [plain(part) for part in value.list.values]
    return getattr(value, kind) if kind else None


def read(serving):
    names = ["clicks", "spend", "country", "last_categories"]
    answer = serving.GetFeatures(request("user_activity", names), timeout=TIMEOUT_S)
    assert [column.name for column in answer.features] == names, answer
    return dict(zip(names, map(plain, answer.entities[0].values)))


def read_on_a_stream(serving):
    """Three reads on one call; the one that fails does not end it."""
    reads = [
        serving_pb2.StreamFeaturesRequest(read=request(view, ["clicks"]), tag=tag)
        for tag, view in enumerate(["user_activity", "no_such_view", "user_activity"])
    ]
    outcomes = []
    for tag, answer in enumerate(serving.StreamFeatures(iter(reads), timeout=TIMEOUT_S)):
        assert answer.tag == tag, answer
        if answer.WhichOneof("outcome") == "error":
            code = answer.error.code
            name = next(known.name for known in grpc.StatusCode if known.value[0] == code)
            outcomes.append(name)
        else:
            outcomes.append(plain(answer.features.entities[0].values[0]))
    return outcomes


def read_unknown_view(serving):
    try:
        serving.GetFeatures(request("no_such_view", []), timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def main(address):
    with grpc.insecure_channel(address) as channel:
        ingest = ingest_pb2_grpc.IngestServiceStub(channel)
        serving = serving_pb2_grpc.FeatureServiceStub(channel)
        publish_profile(ingest)
        result = {
            "streamed": publish_on_a_stream(ingest),
            "repeated": publish_again(ingest),
            "read": read(serving),
            "stream_read": read_on_a_stream(serving),
            "unknown_view": read_unknown_view(serving),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
