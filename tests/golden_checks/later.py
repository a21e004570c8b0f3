"""Golden folders whose systems are not built yet, recognised by what lies in them."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

# What a folder must hold (a key of a tensor file or of a JSON file, or a file name): its kind and
# the part of the project that builds the system.
KINDS: tuple[tuple[set[str], str, int], ...] = (
    ({"input.segmentation_mask", "output.context_mask"}, "osm_maskqformer", 7),
    ({"datasets", "data.json"}, "osm_metrics", 7),
    ({"canvas", "image0.canvas"}, "osm_preprocess", 7),
)


def contents(folder: Path) -> set[str]:
    """File names, keys of JSON objects, and tensor names with their first one and two parts."""
    found = set()
    for path in folder.iterdir():
        found.add(path.name)
        if path.suffix == ".json":
            loaded = json.loads(path.read_text())
            found |= set(loaded) if isinstance(loaded, dict) else set()
        elif path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118 - not a dictionary
                    parts = key.split(".")
                    found |= {key, parts[0], ".".join(parts[:2])}
    return found


def kind_of(folder: Path) -> tuple[str, int] | None:
    """(kind, part) of a known kind that is not covered yet, else None."""
    there = contents(folder)
    for wanted, kind, part in KINDS:
        if wanted <= there:
            return kind, part
    return None
