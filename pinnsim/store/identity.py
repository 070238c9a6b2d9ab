"""Which tree a file of arrays belongs to: the paths, shapes and order of its leaves, and every static name in it.

Two models can have equal arrays and differ in the order of their genes only, so names count as much as shapes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from pinnsim.errors import first


def static_names(tree: object) -> dict[str, tuple[str, ...]]:
    """Every static text or number of a tree by path (`kinetics/table/genes`): what its arrays mean, in their order."""
    found: dict[str, tuple[str, ...]] = {}

    def visit(node: Any, path: str, static: bool) -> None:
        if static and isinstance(node, str | int | float):
            found[path] = (str(node),)
        elif static and isinstance(node, tuple | list) and all(isinstance(item, str | int | float) for item in node):
            found[path] = tuple(str(item) for item in node)
        elif dataclasses.is_dataclass(node) and not isinstance(node, type):
            for field in dataclasses.fields(node):
                fixed = static or bool(field.metadata.get("static"))
                visit(getattr(node, field.name, None), f"{path}/{field.name}", fixed)
        elif isinstance(node, tuple | list):
            for key, item in zip(getattr(node, "_fields", range(len(node))), node, strict=True):
                visit(item, f"{path}/{key}", static)
        elif isinstance(node, dict):
            for key, item in node.items():
                visit(item, f"{path}/{key}", static)

    visit(tree, "", False)
    return {path.lstrip("/"): values for path, values in found.items()}


def leaf_difference(have: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> str:
    shared = [name for name in have if name in want]
    reshaped = [f"'{n}' {have[n].shape} instead of {want[n].shape}" for n in shared if have[n].shape != want[n].shape]
    parts = [
        ("not in the file: ", [f"'{name}'" for name in want if name not in have]),
        ("not in the model: ", [f"'{name}'" for name in have if name not in want]),
        ("other shape: ", reshaped),
    ]
    if not any(items for _, items in parts):
        moved = [f"'{a}' where the model has '{b}'" for a, b in zip(have, want, strict=True) if a != b]
        parts = [("other order: ", moved)]
    return "; ".join(label + first(items) for label, items in parts if items)


def name_difference(have: Mapping[str, tuple[str, ...]], want: Mapping[str, tuple[str, ...]]) -> str:
    differing = [path for path in dict.fromkeys([*have, *want]) if have.get(path) != want.get(path)]
    path = differing[0]
    a, b = have.get(path, ()), want.get(path, ())
    places = [f"'{x}' instead of '{y}' at {k}" for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
    what = first(places) if len(a) == len(b) else f"{len(a)} entries instead of {len(b)}"
    return f"{path} has {what}" + (f" (and {len(differing) - 1} more lists)" if len(differing) > 1 else "")
