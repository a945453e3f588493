"""The package keeps its promise to be typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import millrace
from mypy import api

ROOT = Path(__file__).resolve().parents[1]


def test_the_package_passes_mypy_strict(tmp_path: Path) -> None:
    # As it is imported from here, which is where others are installed too.
    package = tmp_path / "millrace"
    shutil.copytree(Path(millrace.__file__).parent, package)
    options = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={tmp_path / 'cache'}"]
    told, errors, code = api.run([*options, str(package)])
    assert code == 0, told + errors
