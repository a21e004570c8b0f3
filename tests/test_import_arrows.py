"""The rooms of the house, and which of them may use which: arrows point one way.

    cli, app, scale -> verbs -> methods -> nn -> ops -> types
    metrics, data -> ops -> types;  benchmarks -> data, metrics
    training -> data, metrics, nn;  training.recipes and training.studies -> methods as well,
    and studies start from bundled checkpoints

Imports inside functions count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import anymask

assert anymask.__file__ is not None
ROOT = Path(anymask.__file__).parent

# The types are built from these, so they lie below them although they live in higher rooms.
FOUNDATION = ["errors", "version", "ops.rle", "ops.boxes", "data.formats.atomic"]
TYPES = [
    *FOUNDATION, "draw", "image", "plots", "report", "segments", "vision_server", "vocabulary",
]  # fmt: skip
OPS = [*TYPES, "ops"]
VERBS = [*OPS, "nn", "methods", "checkpoints", "loading", "verbs"]
DATA = [*OPS, "data"]
METRICS = [*OPS, "metrics"]
TRAINING = [*DATA, *METRICS, "nn", "training"]
TOP = [
    *VERBS,
    *TRAINING,
    "benchmarks",
    "comparison",
    "predictions",
    "evaluation",
    "app",
    "cli",
    "doctor",
    "folder",
    "scale",
]

# Room or module -> what it may import besides itself. The longest name that fits counts.
MAY_IMPORT = {
    "errors": [],
    "version": [],
    "ops.rle": FOUNDATION,
    "ops.boxes": FOUNDATION,
    "data.formats.atomic": [],
    "draw": TYPES,
    "image": TYPES,
    "plots": TYPES,
    "report": TYPES,
    "segments": TYPES,
    "vision_server": TYPES,
    "vocabulary": TYPES,
    "ops": OPS,
    "nn": [*OPS, "nn"],
    "methods": [*OPS, "nn", "methods"],
    "checkpoints": ["errors"],
    "loading": VERBS,
    "verbs": VERBS,
    "data": DATA,
    "metrics": METRICS,
    "comparison": DATA,
    "predictions": [*DATA, *METRICS],
    "evaluation": [*DATA, *METRICS, "predictions"],
    "benchmarks": [*DATA, *METRICS, "benchmarks", "evaluation", "predictions"],
    "training": TRAINING,
    "training.recipes": [*TRAINING, "methods"],
    "training.studies": [*TRAINING, "methods", "checkpoints"],
    "__main__": TOP,
    "app": TOP,
    "cli": TOP,
    "doctor": TOP,
    "folder": TOP,
    "scale": TOP,
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inside(name: str, rooms: list[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def room_of(name: str) -> str | None:
    fitting = [room for room in MAY_IMPORT if inside(name, [room])]
    return max(fitting, key=len, default=None)


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """Names of modules of this package that a file imports, without the leading `anymask.`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "anymask":
                    yield alias.name.removeprefix("anymask").lstrip("."), node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            if (node.module or "").split(".")[0] != "anymask":
                continue
            base = (node.module or "").removeprefix("anymask").lstrip(".")
            for alias in node.names:
                # `from anymask.ops import rle` names a module, `... import RLE` something in one.
                whole = f"{base}.{alias.name}".lstrip(".")
                is_module = (ROOT / Path(*whole.split("."))).with_suffix(".py").exists()
                yield whole if is_module or not base else base, node.lineno


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    name = module_name(path)
    room = room_of(name)
    assert room is not None, f"{name} lies in no room: give it one in MAY_IMPORT"
    for imported, line in imports_of(path):
        allowed = inside(imported, MAY_IMPORT[room]) or inside(imported, [room])
        assert allowed, f"{path.name}:{line}: {room} may not import anymask.{imported}"


def test_the_rule_is_able_to_fail() -> None:
    assert not inside("methods.segprompt", MAY_IMPORT["nn"])
    assert not inside("data.coco", MAY_IMPORT["segments"])
    assert inside("data.formats.atomic", MAY_IMPORT["report"])
    assert not inside("data.formats.coco", MAY_IMPORT["report"])
    assert not inside("opsx", ["ops"])
    assert room_of("training.recipes.pocket") == "training.recipes"
    assert room_of("kitchen.sink") is None
