"""What tests start from."""

from __future__ import annotations

import os
from collections.abc import Iterator

import millrace
import pytest
from fake_server import FakeServer


@pytest.fixture(autouse=True)
def no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of tests are told everything."""
    for name in list(os.environ):
        if name.startswith("MILLRACE_") and name not in ("MILLRACE_BIN", "MILLRACE_DATA"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server whose answers the test writes."""
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture
def client(server: FakeServer) -> Iterator[millrace.Client]:
    """A client of it."""
    with millrace.Client(server.endpoint, timeout=20.0) as made:
        yield made
