"""Credits, against a plain list."""

from __future__ import annotations

import random

import pytest
from millrace._window import Batch, Window
from millrace.v1 import ingest_pb2


def batch(sequence: int, facts: int, schema: bytes = b"S") -> Batch:
    request = ingest_pb2.PublishRequest(
        first_sequence=sequence, next_sequence=sequence + facts, arrow_ipc=b"b" * facts
    )
    return Batch(request, schema, facts)


def credits_of(facts: int, size: int = 1 << 30) -> ingest_pb2.Credits:
    return ingest_pb2.Credits(facts=facts, bytes=size)


@pytest.mark.parametrize("seed", range(50))
def test_credits_hold_and_nothing_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    window = Window()
    pushed: list[int] = []
    answered: list[int] = []
    in_flight: list[tuple[int, int]] = []
    granted = (0, 0)
    has_schema = False
    for _ in range(200):
        step = chance.choice(["push", "grant", "send", "send", "answer", "answer", "restart"])
        if step == "push":
            made = batch(len(pushed), chance.randrange(20))
            window.push(made)
            pushed.append(len(pushed))
        elif step == "grant":
            granted = (chance.randrange(40), chance.randrange(200))
            window.grant(credits_of(*granted))
        elif step == "send" and window.may_send():
            assert granted[0] > 0 and granted[1] > 0
            request = window.send()
            assert request.arrow_ipc.startswith(b"S") != has_schema
            has_schema = True
            assert request.first_sequence == pushed[len(answered) + len(in_flight)]
            facts = request.next_sequence - request.first_sequence
            # The schema is counted whether or not it had to be sent: calls may break.
            in_flight.append((facts, request.ByteSize()))
            if len(in_flight) > 1:
                assert sum(f for f, _ in in_flight) <= granted[0]
                assert sum(size for _, size in in_flight) <= granted[1]
        elif step == "answer":
            found = window.answered()
            assert (found is None) == (not in_flight)
            if found is not None:
                in_flight.pop(0)
                answered.append(found.request.first_sequence)
        elif step == "restart" and chance.random() < 0.2:
            window.restart()
            in_flight, granted, has_schema = [], (0, 0), False
        assert answered == pushed[: len(answered)]
        assert window.is_empty == (len(answered) == len(pushed))


def test_a_batch_larger_than_all_credits_goes_alone() -> None:
    window = Window()
    window.push(batch(0, 10))
    window.push(batch(10, 1))
    window.grant(credits_of(0))
    assert not window.may_send()
    window.grant(credits_of(5))
    assert window.may_send()
    window.send()
    assert not window.may_send()
    window.answered()
    assert window.may_send()


def test_a_schema_is_sent_when_it_changes_and_on_every_call() -> None:
    window = Window()
    window.grant(credits_of(100))
    for sequence, schema in enumerate([b"A", b"A", b"B", b""]):
        window.push(batch(sequence, 1, schema))
    assert [window.send().arrow_ipc for _ in range(4)] == [b"Ab", b"b", b"Bb", b"b"]
    window.restart()
    window.grant(credits_of(100))
    assert [window.send().arrow_ipc for _ in range(2)] == [b"Ab", b"b"]
