"""WOW-Seg's scorer with Sentence-BERT."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from anymask.errors import MissingExtraError
from anymask.metrics.naming import naming_scores
from anymask.nn.sentence_encoder import load_sentence_encoder
from golden_checks.compare import Row, close

BATCHED = 5e-4  # encoding many texts at once pads them
MEAN = 1e-4


def matches(folder: Path) -> bool:
    path = folder / "data.json"
    return path.is_file() and {"encoder", "items", "summary"} <= set(json.loads(path.read_text()))


def check(folder: Path) -> list[Row]:
    cases = json.loads((folder / "data.json").read_text())
    items, summary = cases["items"], cases["summary"]
    try:
        encode = load_sentence_encoder()
    except MissingExtraError as error:
        raise RuntimeError(f"the encoder is missing: {error}") from error
    similarity, overlap = naming_scores(
        [item["pred"] for item in items], [item["gt"] for item in items], encode
    )
    rows = [
        close(
            "similarity", torch.from_numpy(similarity),
            torch.tensor([item["semantic_similarity"] for item in items]), BATCHED,
        ),
        close(
            "iou", torch.from_numpy(overlap),
            torch.tensor([item["semantic_iou"] for item in items]), 1e-9, 1e-6,
        ),
        close("mean similarity", torch.tensor([similarity.mean()]),
              torch.tensor([summary["mean_similarity"]]), MEAN),
        close("mean iou", torch.tensor([overlap.mean()]),
              torch.tensor([summary["mean_iou"]]), MEAN),
    ]  # fmt: skip
    for text, first in cases["encoder"]["first16_of_embedding"].items():
        vector = torch.from_numpy(encode([text])[0, : len(first)])
        rows.append(close(f"embedding of {text!r}", vector, torch.tensor(first), 1e-5))
    return rows
