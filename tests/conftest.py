"""What many tests need."""

from __future__ import annotations

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # processes that share the cores take one each
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

# The same examples every time: a full check that fails can be run again. HYPOTHESIS_PROFILE=default
# looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


LONG = ("training", "benchmarks")  # folders; begun first, so that processes end together


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(part in LONG for part in item.path.parts))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random model, for tests of everything around it."""
    import torch

    from anymask.methods.segprompt import SegPromptConfig, SegPromptModel

    torch.manual_seed(0)
    config = SegPromptConfig.pocket(
        pocket_widths=(8, 16, 16, 32),
        pocket_depths=(1, 1, 1, 1),
        hidden_dim=32,
        mask_dim=16,
        num_heads=4,
        decoder_layers=3,
        decoder_ffn_dim=32,
        num_queries=16,
        image_long_side=96,
    )
    folder = tmp_path_factory.mktemp("tiny")
    SegPromptModel(config).save_pretrained(folder)
    return folder
