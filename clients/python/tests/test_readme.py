"""The code of the package's README does what it says, on the catalog of the repository's README."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import millrace
import pandas as pd
import pytest
from real_server import RealServer, binary

PACKAGE = Path(__file__).resolve().parents[1]


def block(readme: Path, kind: str, start: str) -> str:
    """The first block of a kind that begins like this."""
    found = re.findall(rf"```{kind}\n({re.escape(start)}.*?)```", readme.read_text(), re.DOTALL)
    return str(found[0])


@pytest.mark.skipif(binary() is None, reason="MILLRACE_BIN is not set")
def test_the_readme_does_what_it_says(tmp_path: Path) -> None:
    code = block(PACKAGE / "README.md", "python", "from datetime")
    # What stands in comments behind a call is what it gives.
    said = ast.literal_eval(re.findall(r"# (\{.*\})", code)[0])
    server = RealServer(tmp_path / "data")
    try:
        with millrace.Client(server.endpoint) as client:
            client.apply(block(PACKAGE.parents[1] / "README.md", "yaml", "entities"))
        code = code.replace("http://127.0.0.1:7400", server.endpoint)
        code = code.replace("    client.get_features", "    online = client.get_features")
        code = code.replace("    client.training_set", "    offline = client.training_set")
        names: dict[str, object] = {}
        exec(code, names)
    finally:
        server.stop()
    assert names["online"] == said
    offline = names["offline"]
    assert isinstance(offline, pd.DataFrame)
    assert list(offline.columns) == ["user", "at", "bought", *said[42]]
    assert offline.iloc[0]["spend_24h"] == said[42]["spend_24h"]
