"""The package keeps its promise to be typed."""

from __future__ import annotations

from pathlib import Path

import millrace
from mypy import api

ROOT = Path(__file__).resolve().parents[1]


def test_the_package_passes_mypy_strict(tmp_path: Path) -> None:
    # Where it is imported from: the sources, or an installed package.
    package = Path(millrace.__file__).parent
    told, errors, code = api.run(
        [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={tmp_path}", str(package)]
    )
    assert code == 0, told + errors
