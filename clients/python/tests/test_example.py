"""The example, where MILLRACE_BIN and MILLRACE_DATA name a program and the real data sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from real_server import RealServer, binary

DATA = Path(os.environ.get("MILLRACE_DATA", "")) / "online-retail"
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "online_retail.py"

#: It publishes 400,000 facts to a program that may not be optimized.
LIMIT = 300.0


@pytest.mark.skipif(binary() is None, reason="MILLRACE_BIN is not set")
@pytest.mark.skipif(not DATA.is_dir(), reason="MILLRACE_DATA has no online-retail")
def test_the_example_trains_a_model_and_scores_online_as_offline(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "data")
    try:
        command = [sys.executable, str(EXAMPLE), "--endpoint", server.endpoint, "--data", str(DATA)]
        done = subprocess.run(command, timeout=LIMIT, capture_output=True, text=True, check=False)
    finally:
        server.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("online equals offline", "scored online"):
        assert told in done.stdout, done.stdout
