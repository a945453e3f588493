"""Trying again, for a while."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from .errors import Broken, MillraceError, NotReachable

#: The first pause, in seconds; a server that restarts on the same machine is back after a few.
PAUSE_MIN = 0.05
#: The longest one, unless the server asks for more.
PAUSE_MAX = 1.0
#: A service that nobody can reach is tried for so many seconds.
UNREACHABLE_WITHIN = 15.0


class Patience:
    """How long, and how often, a call that failed is made again."""

    def __init__(
        self,
        within: float,
        *,
        deadline: float | None = None,
        attempts: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """`within` bounds in seconds how long failures may follow each other, `attempts` how many.

        `deadline` is an instant of `clock` after which nothing is begun.
        """
        self._within = within
        self._deadline = deadline
        self._attempts = attempts
        self._clock = clock
        self._pause = pause
        self._since: float | None = None
        self._failures = 0

    def renew(self) -> None:
        """The service answered: what went wrong before is forgotten."""
        self._since = None
        self._failures = 0

    def wait(self, error: MillraceError) -> None:
        """Waits before the next attempt, as long as the server asked at least.

        Raises the error where it is not one that passes or there is no time left, as NotReachable
        where nobody answered.
        """
        if not error.retryable:
            raise error
        now = self._clock()
        since = self._since = now if self._since is None else self._since
        asked: float = getattr(error, "retry_after", None) or 0.0
        pause = min(PAUSE_MIN * 2.0 ** min(self._failures, 16), PAUSE_MAX)
        pause = max(pause * random.uniform(0.75, 1.25), asked)
        self._failures += 1
        is_broken = isinstance(error, Broken)
        within = min(self._within, UNREACHABLE_WITHIN) if is_broken else self._within
        spent = now + pause > since + within
        spent |= self._deadline is not None and now + pause >= self._deadline
        spent |= self._attempts is not None and self._failures > self._attempts
        if spent and isinstance(error, Broken):
            waited = now - since
            raise NotReachable(error.service, error.address, waited, error.reason) from error
        if spent:
            raise error
        self._pause(pause)
