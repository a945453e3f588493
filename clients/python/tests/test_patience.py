"""How long a call that failed is made again, by a clock of the test."""

from __future__ import annotations

import grpc
import millrace
import pytest
from millrace._patience import PAUSE_MAX, UNREACHABLE_WITHIN, Patience
from millrace.errors import Broken, MillraceError, ResourceExhausted


class Clock:
    """Goes on while somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def patience(
        self, within: float, deadline: float | None = None, attempts: int | None = None
    ) -> Patience:
        return Patience(
            within,
            deadline=deadline,
            attempts=attempts,
            clock=lambda: self.now,
            pause=self.pause,
        )


def busy(retry_after: float | None) -> MillraceError:
    return ResourceExhausted(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", reason="OVERLOADED", retry_after=retry_after
    )


GONE = Broken("ingest", "http://a:1", "Socket closed")


def wait_until_raised(patience: Patience, error: MillraceError) -> MillraceError:
    for _ in range(10_000):
        try:
            patience.wait(error)
        except MillraceError as raised:
            return raised
    raise AssertionError("it waits for ever")


def test_pauses_grow_and_are_bounded() -> None:
    clock = Clock()
    raised = wait_until_raised(clock.patience(60.0), busy(0.0))
    assert raised.args == ("busy",)
    assert clock.pauses[0] < 0.1
    assert max(clock.pauses) <= PAUSE_MAX * 1.25
    assert 55.0 < sum(clock.pauses) <= 60.0


def test_a_server_is_given_the_time_it_asks_for() -> None:
    clock = Clock()
    clock.patience(60.0).wait(busy(7.5))
    assert clock.pauses == [7.5]
    # One that asks for more than there is is not waited for at all.
    with pytest.raises(ResourceExhausted):
        clock.patience(5.0).wait(busy(7.5))
    with pytest.raises(ResourceExhausted):
        clock.patience(60.0, deadline=clock.now + 7.0).wait(busy(7.5))
    assert clock.pauses == [7.5]


def test_what_does_not_pass_is_raised_at_once() -> None:
    clock = Clock()
    assert wait_until_raised(clock.patience(60.0), busy(None)).args == ("busy",)
    assert clock.pauses == []


def test_a_service_that_nobody_reaches_is_given_up() -> None:
    clock = Clock()
    raised = wait_until_raised(clock.patience(60.0), GONE)
    assert isinstance(raised, millrace.NotReachable)
    assert UNREACHABLE_WITHIN - 2 < raised.waited <= UNREACHABLE_WITHIN
    assert raised.reason == "Socket closed"


def test_an_answer_makes_what_went_wrong_forgotten() -> None:
    clock = Clock()
    patience = clock.patience(60.0, attempts=2)
    for _ in range(5):
        patience.wait(GONE)
        patience.wait(GONE)
        patience.renew()
    patience.wait(GONE)
    patience.wait(GONE)
    assert isinstance(wait_until_raised(patience, GONE), millrace.NotReachable)
    assert len(clock.pauses) == 12
