"""What `import anymask` offers, and that it costs nothing until it is used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import anymask

PUBLIC = [
    "AnymaskError",
    "CheckpointError",
    "DataError",
    "Image",
    "ImageError",
    "InputError",
    "MissingExtraError",
    "OutOfTime",
    "PartialFailure",
    "Report",
    "Segments",
    "SegmentsError",
    "Vocabulary",
    "VocabularyError",
    "__version__",
    "annotate",
    "discover",
    "find",
    "match",
    "measure",
    "name",
    "read_image",
    "segment",
]


def in_a_fresh_process(code: str) -> Any:
    """Run code that leaves its answer in `answer`."""
    program = f"import json, sys, time\n{code}\nprint(json.dumps(answer))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_list_of_public_names() -> None:
    assert sorted(anymask.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(anymask, name)
    assert value is not None
    assert name in dir(anymask)
    if name != "__version__":
        assert value.__doc__


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segment_everything'"):
        anymask.segment_everything  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    assert anymask.__file__ is not None
    tree = ast.parse(Path(anymask.__file__).read_text())
    seen = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("anymask.")
        for alias in node.names
    }
    assert seen == set(PUBLIC)


def test_import_is_cheap() -> None:
    code = (
        "before = set(sys.modules); start = time.perf_counter(); import anymask\n"
        "answer = [time.perf_counter() - start, sorted(set(sys.modules) - before)]"
    )
    runs = [in_a_fresh_process(code) for _ in range(3)]
    # The best of three: other programs on the machine only ever add time.
    assert min(seconds for seconds, _ in runs) < 0.1
    loaded = {name.split(".")[0] for name in runs[0][1]}
    assert not loaded & {"PIL", "numpy", "pycocotools", "scipy", "torch", "transformers"}


def test_types_do_without_torch() -> None:
    code = (
        "import anymask\n"
        "for name in anymask.__all__:\n"
        "    if name != 'discover': getattr(anymask, name)\n"
        "import anymask.data.coco, anymask.data.labelme, anymask.data.voc, anymask.ops.masks\n"
        "import anymask.data.formats.coco, anymask.data.formats.overlay\n"
        "answer = sorted({'torch', 'transformers', 'supervision'} & set(sys.modules))"
    )
    assert in_a_fresh_process(code) == []


def test_errors_form_one_tree() -> None:
    assert issubclass(anymask.ImageError, anymask.InputError)
    assert issubclass(anymask.SegmentsError, anymask.InputError)
    assert issubclass(anymask.VocabularyError, anymask.InputError)
    assert issubclass(anymask.InputError, ValueError)
    assert issubclass(anymask.MissingExtraError, ImportError)
    errors = [
        name for name in PUBLIC if name.endswith("Error") or name in ("OutOfTime", "PartialFailure")
    ]
    assert all(issubclass(getattr(anymask, name), anymask.AnymaskError) for name in errors)
