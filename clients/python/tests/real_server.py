"""`millrace dev` as a process that tests start, kill and start again."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

#: How long a server may take to be ready, in seconds, on a machine that builds beside the tests.
READY_WITHIN = 120.0
#: How long it may take to drain: its own limit is 10 s.
DRAINED_WITHIN = 20.0


def binary() -> Path | None:
    """The program under test, as MILLRACE_BIN says."""
    found = os.environ.get("MILLRACE_BIN")
    return Path(found) if found else None


class RealServer:
    """A server on a folder; `stop` ends it."""

    def __init__(self, folder: Path, flags: Sequence[str] = ()) -> None:
        self._folder = folder
        self._flags = list(flags)
        self._process: subprocess.Popen[str] | None = None
        #: Where it listens; the same after a restart.
        self.endpoint = ""
        self.start("127.0.0.1:0")

    def start(self, listen: str | None = None) -> None:
        """Starts it, again where it was unless `listen` says where, and waits until it is ready."""
        program = binary()
        assert program is not None, "MILLRACE_BIN is not set"
        where = listen or self.endpoint.partition("://")[2]
        command = [str(program), "dev", "--data", str(self._folder), "--listen", where]
        clean = {n: v for n, v in os.environ.items() if not n.startswith("MILLRACE_")}
        with open(self._folder.with_suffix(".log"), "ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._flags], stdout=subprocess.PIPE, stderr=log, text=True, env=clean
            )
        line = self._ready_line(self._process)
        found = re.search(r"is ready on (https?://\S+:\d+)", line)
        if found is None:
            self.kill()
            said = self._folder.with_suffix(".log").read_text(errors="replace")
            raise AssertionError(f"the server is not ready: {line!r}\n{said[-4_000:]}")
        self.endpoint = found[1]

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it as an operator would."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(DRAINED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def _ready_line(self, process: subprocess.Popen[str]) -> str:
        """The first line that it prints; empty when it ends or says nothing in time."""
        assert process.stdout is not None
        deadline = time.monotonic() + READY_WITHIN
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(deadline - time.monotonic()):
                return ""
        return process.stdout.readline()
