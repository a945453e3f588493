"""Where the services are, and what is never sent or shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import millrace
import pytest
from fake_server import FakeServer
from millrace._settings import Settings, settings
from millrace.v1 import serving_pb2


def made(environment: dict[str, str] | None = None, **given: Any) -> Settings:
    wanted: dict[str, Any] = dict.fromkeys(
        ("endpoint", "serving", "ingest", "join", "tls", "token")
    )
    return settings(**{**wanted, **given}, environment=environment or {})


def addresses(found: Settings) -> list[list[str]]:
    return [[t.address for t in role] for role in (found.ingest, found.join, found.serving)]


def test_roles_fall_back_to_the_one_endpoint() -> None:
    assert addresses(made()) == [["127.0.0.1:7400"]] * 3
    found = made(endpoint="http://a:1", join=["http://b:2", "http://c:3"], serving="")
    assert addresses(found) == [["a:1"], ["b:2", "c:3"], ["a:1"]]


def test_what_is_not_given_is_taken_from_the_environment() -> None:
    environment = {
        "MILLRACE_ENDPOINT": "http://a:1",
        "MILLRACE_SERVING_ENDPOINT": "http://b:2, http://[::1]:3",
        "MILLRACE_INGEST_ENDPOINT": "",
    }
    assert addresses(made(environment)) == [["a:1"], ["a:1"], ["b:2", "[::1]:3"]]
    assert addresses(made(environment, serving="http://c:4"))[2] == ["c:4"]


@pytest.mark.parametrize(
    ("endpoint", "rule"),
    [
        ("127.0.0.1:7400", "must start with http:// or https://"),
        ("localhost", "must start with http:// or https://"),
        ("http://a b", "must be an address such as"),
        ("http://a:b", "must be an address such as"),
        ("http://a:1/path", "must be an address such as"),
        ("https://a:1", "give it with tls"),
    ],
)
def test_what_is_no_endpoint_is_named(endpoint: str, rule: str) -> None:
    with pytest.raises(millrace.InvalidInput, match=rule) as caught:
        millrace.Client(endpoint)
    assert repr(endpoint) in str(caught.value)


def test_nothing_secret_goes_where_others_read(tmp_path: Path) -> None:
    for endpoint in ("http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"):
        assert made(endpoint=endpoint, token="a-token").token == "a-token"
    for endpoint in ("http://10.0.0.1:1", "http://localhost.example:1", "http://127.0.0.1.evil:1"):
        with pytest.raises(millrace.InvalidInput, match="over https:// alone"):
            made(endpoint=endpoint, token="a-token")
    authority = tmp_path / "ca.pem"
    authority.write_text("no PEM")
    with pytest.raises(millrace.InvalidInput, match="use https://"):
        made(endpoint="http://127.0.0.1:1", tls=millrace.Tls(authority))
    with pytest.raises(millrace.InvalidInput, match="cert and key go together"):
        made(endpoint="https://a:1", tls=millrace.Tls(authority, cert=authority))
    with pytest.raises(millrace.InvalidInput, match="tls.ca: cannot be read"):
        made({"MILLRACE_CA": str(tmp_path / "none.pem")}, endpoint="https://a:1")


def test_a_token_goes_with_every_call_and_is_not_shown(
    server: FakeServer, tmp_path: Path
) -> None:
    server.on("GetFeatures", lambda request, context: serving_pb2.GetFeaturesResponse())
    secret = tmp_path / "token"
    secret.write_text("s3cret-token\n")
    with millrace.Client(server.endpoint, token=f"@{secret}") as client:
        client.get_features("view", [])
        assert "s3cret" not in repr(client)
    assert server.script.metadata[0]["authorization"] == "Bearer s3cret-token"


@pytest.mark.parametrize("token", ["a b", "a\n", "é", "@/no/such/file"])
def test_a_token_that_no_header_carries_is_refused(token: str) -> None:
    with pytest.raises(millrace.InvalidInput, match="token: "):
        millrace.Client(token=token)
