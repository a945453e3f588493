"""Generates `millrace.v1` from the protocol's files while the package is built.

The generated code is in no repository and in every wheel. For an editable install it is put beside
the sources (`src/millrace/v1`), where git does not look.
"""

from __future__ import annotations

import importlib.resources
import shutil
import tempfile
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: What a client speaks. The calls between the services are not among it.
PROTOS = ("admin", "catalog", "fact", "ingest", "serving", "value")


def protos(root: Path) -> Path:
    """The folder of the protocol's files: in a source distribution, else in the repository.

    Raises FileNotFoundError where there is neither.
    """
    for folder in (root / "proto", root.parent.parent / "proto"):
        if (folder / "millrace" / "v1").is_dir():
            return folder
    raise FileNotFoundError(
        f"{root} has no proto folder and is not clients/python of the repository: "
        "install from a clone, or from a source distribution made in one"
    )


def generate(source: Path, out: Path) -> None:
    """Writes the modules of `millrace.v1` below `out`.

    Raises RuntimeError when protoc refuses, which prints why.
    """
    out.mkdir(parents=True, exist_ok=True)
    included = importlib.resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{source}", f"-I{included}"]
    arguments += [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    arguments += [f"millrace/v1/{name}.proto" for name in PROTOS]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc could not generate millrace.v1")
    package = out / "millrace" / "v1"
    package.joinpath("__init__.py").write_text('"""The protocol of Millrace, generated."""\n')


class GeneratedStubs(BuildHookInterface[Any]):
    """Adds the generated modules to a wheel, and the protocol's files to a source distribution."""

    PLUGIN_NAME = "custom"
    _folder: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before a build; `version` is "standard" or "editable" for a wheel."""
        root = Path(self.root)
        source = protos(root)
        if self.target_name == "sdist":
            for name in PROTOS:
                path = f"millrace/v1/{name}.proto"
                build_data["force_include"][str(source / path)] = f"proto/{path}"
            return
        self._folder = tempfile.mkdtemp(prefix="millrace-stubs-")
        generate(source, Path(self._folder))
        made = Path(self._folder) / "millrace" / "v1"
        if version == "editable":
            beside = root / "src" / "millrace" / "v1"
            shutil.rmtree(beside, ignore_errors=True)
            shutil.copytree(made, beside)
            return
        for file in sorted(made.iterdir()):
            build_data["force_include"][str(file)] = f"millrace/v1/{file.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Runs after a build."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
