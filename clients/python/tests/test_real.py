"""Against the real program, where MILLRACE_BIN names it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import millrace
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import trustme
from real_server import RealServer, binary

pytestmark = pytest.mark.skipif(binary() is None, reason="MILLRACE_BIN is not set")

CATALOG = Path(__file__).with_name("clicks.yaml").read_text()
T0 = datetime(2024, 3, 1, 10, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealServer]:
    server = RealServer(tmp_path / "data")
    yield server
    server.stop()


@pytest.fixture
def shop(real: RealServer) -> Iterator[millrace.Client]:
    """A client of a server with the catalog."""
    with millrace.Client(real.endpoint) as client:
        assert client.apply(CATALOG).applied
        yield client


def clicks(count: int, users: int = 10) -> pd.DataFrame:
    """Click i is of user i % users, i seconds after T0."""
    frame: pd.DataFrame = pd.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(count)],
            "user_id": [i % users for i in range(count)],
            "ts": [T0 + timedelta(seconds=i) for i in range(count)],
            "price": [i / 8 for i in range(count)],
            "item": [f"i{i % 7}" for i in range(count)],
        }
    )
    return frame


PROFILES = [
    {"user_id": 1, "valid_from": T0, "tier": 3, "country": "FR"},
    {"user_id": 1, "valid_from": T0 + HOUR, "tier": 1, "country": None},
    {"user_id": 2, "valid_from": T0 - HOUR, "tier": 2, "country": "DE"},
]


def test_what_is_published_is_read(shop: millrace.Client) -> None:
    published = shop.publish("clicks", clicks(100))
    assert (published.sent, published.accepted) == (100, 100)
    assert shop.publish("profiles", PROFILES).sent == 3
    assert shop.publish("clicks", clicks(100)).duplicate == 100
    # Other rows are another producer's, and their ids tell which are known.
    assert shop.publish("clicks", clicks(101)).duplicate == 100

    features = shop.get_features("activity", [1, 2, 77], at=T0 + timedelta(minutes=1))
    one = features[1]
    assert one.values == {
        "clicks_1h": 6,
        "spend": sum(i / 8 for i in range(1, 60, 10)),
        "gold": 6,
        "top_items": [millrace.Counted("i0", 1), millrace.Counted("i1", 1)],
        "last_items": ["i2", "i6"],
        "country": "FR",
        "last_at": T0 + timedelta(seconds=51),
    }
    assert one.statuses["country"] is millrace.ValueStatus.PRESENT
    assert set(features[77].statuses.values()) == {millrace.ValueStatus.MISSING_ENTITY}
    assert features[77].values["clicks_1h"] == 0
    assert features[2].values["country"] == "DE"
    # Asking with its known_at repeats the answer of one.
    again = shop.get_features("activity", [1], at=features.at, known_at=one.known_at)
    assert again[1].values == one.values
    late = shop.get_features("activity", [1], at="latest", features=["country", "spend"])
    assert late.names == ("country", "spend")
    assert late.at == T0 + HOUR
    assert late[1].statuses["country"] is millrace.ValueStatus.NULL
    assert late[1].versions["profiles"] is not None
    assert shop.status().serving
    assert shop.status().catalog_version == 1


def test_rows_that_are_refused_are_told_one_by_one(shop: millrace.Client) -> None:
    rows: list[dict[str, object]] = [
        {"event_id": "a", "user_id": 1, "ts": T0},
        {"event_id": "b", "ts": T0},
        {"event_id": "c", "user_id": 1, "ts": "yesterday"},
    ]
    published = shop.publish("clicks", rows)
    assert (published.accepted, published.rejected) == (1, 2)
    assert [(e.row, e.reason, e.field) for e in published.exceptions] == [
        (1, "MISSING_KEY", "user_id"),
        (2, "BAD_ROW", "ts"),
    ]
    with pytest.raises(millrace.InvalidArgument) as caught:
        shop.publish("clicks", clicks(3).astype({"user_id": "float64"}))
    assert caught.value.reason == "BATCH_INVALID"
    assert "user_id" in str(caught.value)


def test_mistakes_are_told_with_their_reason(shop: millrace.Client) -> None:
    with pytest.raises(millrace.NotFound) as view:
        shop.get_features("activty", [1])
    assert view.value.reason == "VIEW_NOT_FOUND"
    with pytest.raises(millrace.NotFound) as feature:
        shop.get_features("activity", [1], features=["clicks_1d"])
    assert feature.value.reason == "FEATURE_NOT_FOUND"
    with pytest.raises(millrace.InvalidArgument) as catalog:
        shop.apply(CATALOG.replace("sum: price", "sum: prize"))
    assert catalog.value.reason == "CATALOG_INVALID"
    assert "prize" in str(catalog.value)
    with pytest.raises(millrace.OutOfRange):
        shop.get_features("activity", [1], known_at=datetime.now(timezone.utc) + HOUR)


def test_a_server_that_crashes_in_the_middle_loses_nothing(
    real: RealServer, shop: millrace.Client
) -> None:
    whole = pa.Table.from_pandas(clicks(40_000), preserve_index=False)

    def source() -> Iterator[pa.RecordBatch]:
        for index, batch in enumerate(whole.to_batches(max_chunksize=2_000)):
            if index in (5, 13):
                real.kill()
                real.start()
            yield batch

    rows = pa.RecordBatchReader.from_batches(whole.schema, source())
    published = shop.publish("clicks", rows, producer="crashed")
    assert published.sent == 40_000
    # Those that were durable when the server died, and not answered, are known already.
    assert published.accepted + published.duplicate + published.repaired == 40_000
    until = T0 + timedelta(days=1)
    spent = shop.get_features("activity", range(10), at=until, features=["spend"])
    assert pc.sum(spent.to_arrow()["spend"]).as_py() == sum(i / 8 for i in range(40_000))


def test_tokens_open_what_their_roles_allow(tmp_path: Path) -> None:
    token = "a-token-of-the-tests"
    access = tmp_path / "access.toml"
    digest = hashlib.sha256(token.encode()).hexdigest()
    access.write_text(f'[[token]]\nname = "t"\nsha256 = "{digest}"\nroles = ["publish"]\n')
    server = RealServer(tmp_path / "data", ["--access", str(access)])
    try:
        with millrace.Client(server.endpoint) as nobody, pytest.raises(millrace.Unauthenticated):
            nobody.get_features("activity", [1])
        with millrace.Client(server.endpoint, token=token) as known:
            assert known.status().serving
            with pytest.raises(millrace.PermissionDenied) as caught:
                known.apply(CATALOG)
            assert caught.value.metadata["role"] == "admin"
    finally:
        server.stop()


def test_tls_is_held_from_both_sides(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()

    def file(name: str, blobs: list[trustme.Blob]) -> Path:
        path = tmp_path / f"{name}.pem"
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return path

    def shown(by: trustme.CA, name: str) -> Path:
        made = by.issue_cert(name)
        return file(name, [made.private_key_pem, *made.cert_chain_pems])

    ca = file("ca", [authority.cert_pem])
    own, elses = shown(authority, "client.example"), shown(stranger, "stranger.example")

    def serve(name: str) -> RealServer:
        pem = str(shown(authority, name))
        flags = ["--tls-cert", pem, "--tls-key", pem, "--tls-client-ca", str(ca)]
        return RealServer(tmp_path / f"data-{name}", flags)

    def ask(endpoint: str, tls: millrace.Tls) -> millrace.Status:
        with millrace.Client(endpoint, tls=tls, timeout=30.0) as client:
            return client.status()

    server, other = serve("127.0.0.1"), serve("other.example")
    try:
        assert ask(server.endpoint, millrace.Tls(ca, own, own)).serving
        strange = millrace.Tls(file("strange", [stranger.cert_pem]), own, own)
        for endpoint, tls, reason in [
            (server.endpoint, strange, "CERTIFICATE_VERIFY_FAILED"),
            (other.endpoint, millrace.Tls(ca, own, own), "Hostname Verification|Peer name"),
            (server.endpoint, millrace.Tls(ca), "does not trust this client"),
            (server.endpoint, millrace.Tls(ca, elses, elses), "does not trust this client"),
        ]:
            with pytest.raises(millrace.NotTrusted, match=reason):
                ask(endpoint, tls)
    finally:
        server.stop()
        other.stop()


def spine_of(count: int) -> pd.DataFrame:
    """Row i asks for user i % 12 at i * 7 seconds after T0: two users have no clicks."""
    frame: pd.DataFrame = pd.DataFrame(
        {
            "user": [i % 12 for i in range(count)],
            "at": [T0 + timedelta(seconds=7 * i) for i in range(count)],
            "label": [i % 2 == 0 for i in range(count)],
        }
    )
    return frame


def test_a_training_set_equals_online_reads(shop: millrace.Client) -> None:
    shop.publish("clicks", clicks(2_000))
    shop.publish("profiles", PROFILES)
    spine = spine_of(300)
    found = shop.training_set("activity", spine=spine)
    table = found.to_arrow()
    assert table.num_rows == 300
    assert table.schema.names[:4] == ["user", "at", "label", "clicks_1h"]
    assert table["label"].to_pylist() == list(spine["label"])
    assert found.summary is not None
    # Users 10 and 11 have no facts; the first one of user 0 is at T0, that of others later.
    assert found.summary.missing_rows == sum(i % 12 > 9 for i in range(300))
    for index in (0, 1, 13, 50, 11, 299):
        row = table.slice(index, 1)
        features = shop.get_features("activity", row["user"].to_pylist(), at=row["at"][0].as_py())
        online = features.to_arrow(schema=table.schema, key_names=())
        assert online.equals(row.select(online.schema.names)), index

    # The same question as of then, after more became known.
    shop.publish("clicks", clicks(2_001).assign(price=lambda f: f["price"] + 1))
    again = shop.training_set("activity", spine=spine, version=found.version)
    assert again.version == found.version
    assert again.to_arrow().equals(table)


def test_events_are_rows_too_and_history_is_known_since_it_was_published(
    shop: millrace.Client,
) -> None:
    shop.publish("clicks", clicks(500))
    wanted = ["clicks_1h", "last_at"]
    found = shop.training_set(
        "activity", events=True, from_=T0, to=T0 + timedelta(seconds=100), features=wanted
    )
    frame = found.to_pandas().sort_values("at").reset_index(drop=True)
    assert list(frame["id"]) == [f"e{i}" for i in range(100)]
    # An event never counts itself.
    assert list(frame["clicks_1h"]) == [i // 10 for i in range(100)]
    assert pd.isna(frame["last_at"][0])

    late = shop.training_set("activity", spine=spine_of(10), known_at="at_event")
    with pytest.warns(millrace.UnknownHistoryWarning):
        assert set(late.to_arrow()["clicks_1h"].to_pylist()) == {0}


def test_a_training_set_goes_on_after_a_crash(
    real: RealServer, shop: millrace.Client
) -> None:
    shop.publish("clicks", clicks(2_000))
    whole = pa.Table.from_pandas(spine_of(2_000), preserve_index=False)
    expected = shop.training_set("activity", spine=whole).to_arrow()

    def source() -> Iterator[pa.RecordBatch]:
        for index, batch in enumerate(whole.to_batches(max_chunksize=100)):
            if index == 10:
                real.kill()
                real.start()
            yield batch

    spine = pa.RecordBatchReader.from_batches(whole.schema, source())
    assert shop.training_set("activity", spine=spine).to_arrow().equals(expected)
