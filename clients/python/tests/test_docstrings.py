"""Everything that users of the package call or read says what it is."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import millrace


def public() -> Iterator[tuple[str, object]]:
    """Every public class and function, and what is public of the classes themselves."""
    for name in millrace.__all__:
        item = getattr(millrace, name)
        # Names of types say what they are where they are defined.
        if not (inspect.isclass(item) or inspect.isfunction(item)):
            continue
        yield name, item
        if not inspect.isclass(item):
            continue
        for of, member in vars(item).items():
            is_called = inspect.isfunction(member) or isinstance(
                member, (property, classmethod, staticmethod)
            )
            if is_called and not of.startswith("_"):
                yield f"{name}.{of}", member


def test_whatever_is_public_has_a_docstring() -> None:
    items = list(public())
    assert len(items) > 50, "they are not found"
    # What a dataclass or an enumeration would make up itself begins with its name.
    bare = [
        name
        for name, item in items
        if not (inspect.getdoc(item) or "").strip()
        or (item.__doc__ or "").startswith(f"{name}(")
        or (inspect.isclass(item) and "__doc__" not in vars(item))
    ]
    assert bare == []
