"""Declared studies: one module each, with a constant ``STUDY``; its file name is its name."""

from __future__ import annotations

import importlib
import pkgutil

from anymask.errors import InputError
from anymask.training.study import Study


def study_names() -> list[str]:
    """Names of all declared studies."""
    found = pkgutil.iter_modules(__path__)
    return sorted(module.name.replace("_", "-") for module in found if module.name[0] != "_")


def load_study(name: str) -> Study:
    """The study of this name.

    Raises:
        InputError: there is none; the message lists them.
    """
    if name not in study_names():
        raise InputError(f"no study {name!r}: there are {', '.join(study_names())}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    study: Study = module.STUDY
    return study
