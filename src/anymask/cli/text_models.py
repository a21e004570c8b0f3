"""Which text model compares words: a Hugging Face CLIP, one of our matchers, or letters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anymask.benchmarks.similarity import Embed

HELP = (
    "What compares words: a Hugging Face CLIP (id or folder), a model of match (name or folder), "
    "or letters (no weights)."
)


def text_model(name: str) -> Embed:
    """Texts -> vectors.

    Raises:
        CheckpointError: nothing of that name is there.
    """
    from anymask.benchmarks.similarity import clip_text, letters
    from anymask.checkpoints import find
    from anymask.loading import load_matcher

    if name == "letters":
        return letters
    row = find(name)
    folder = Path(name)
    ours = row is not None or (
        (folder / "config.json").is_file()
        and "anymask_ovsnet" in (folder / "config.json").read_text()
    )
    if not ours:
        return clip_text(name)
    encoder = load_matcher(name, "cpu").text

    def embed(texts: Sequence[str]) -> Any:
        return encoder.embed(list(texts), ("{}",)).numpy()

    return embed
