"""How close words are to the words a model was trained with: leakage (OVSNet, section 3).

Any function from texts to vectors will do; by default CLIP's text side with one sentence, as the
paper has it. Thresholds on cosines do not carry over from one text model to another, so a report
names the model, the sentence and whether vectors were centred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.errors import CheckpointError, MissingExtraError
from anymask.plots import new_figure, save_figure
from anymask.report import Report
from anymask.vocabulary import Vocabulary, normalise

CLIP_LARGE = "openai/clip-vit-large-patch14"
SENTENCE = "a photo of a {}."
Embed = Callable[[Sequence[str]], NDArray[Any]]


@dataclass(frozen=True)
class Similarity:
    """Similarity of a test vocabulary to a training vocabulary.

    Attributes:
        values: (C,) of every test class: the largest cosine of one of its words with a training
            word.
        nearest: (C,) the training word it is nearest to.
        matrix: (C, T) of classes with classes, the largest over pairs of words.
        engine: what the numbers were made with.
    """

    values: NDArray[np.float64]
    nearest: tuple[str, ...]
    matrix: NDArray[np.float64]
    engine: dict[str, Any]


def measure_similarity(
    test: Vocabulary,
    training: Vocabulary,
    embed: Embed,
    *,
    sentence: str = SENTENCE,
    centred: bool = False,
    name: str = "given",
) -> Similarity:
    """Compare two vocabularies.

    Args:
        test, training: names and synonyms.
        embed: texts -> (n, D) vectors.
        sentence: what every word is read in.
        centred: subtract the mean of the training vectors first, which takes away what all short
            texts have in common.
        name: of the text model, for reports.
    """
    sides = []
    for vocabulary in (test, training):
        words = [word for category in vocabulary.categories for word in category.words]
        owner = np.repeat(np.arange(len(vocabulary)), [len(c.words) for c in vocabulary.categories])
        vectors = np.asarray(embed([sentence.replace("{}", w) for w in words]), np.float64)
        sides.append((words, owner, vectors))
    (_, test_owner, mine), (words, train_owner, theirs) = sides
    if centred:
        middle = _unit(theirs).mean(0)
        mine, theirs = _unit(mine) - middle, _unit(theirs) - middle
    cosines = _unit(mine) @ _unit(theirs).T
    best = np.full((len(test), len(words)), -1.0)
    np.maximum.at(best, test_owner, cosines)
    matrix = np.full((len(training), len(test)), -1.0)
    np.maximum.at(matrix, train_owner, best.T)
    nearest = best.argmax(1)
    return Similarity(
        np.round(best.max(1), 6),
        tuple(words[k] for k in nearest.tolist()),
        matrix.T,
        {"text_model": name, "sentence": sentence, "centred": centred},
    )


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def clip_text(model: str | Path = CLIP_LARGE) -> Embed:
    """CLIP's text side as a function: a Hugging Face id or folder.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer, CLIPTextModelWithProjection

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        text = CLIPTextModelWithProjection.from_pretrained(model).eval()
        context = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"no text model at {model}: name a Hugging Face CLIP (id or folder); without network, "
            f"--text-model letters compares words letter by letter ({error})"
        ) from error
    limit = getattr(getattr(context, "text_config", context), "max_position_embeddings", 77)

    def embed(texts: Sequence[str]) -> NDArray[Any]:
        parts = []
        for start in range(0, len(texts), 128):
            tokens = tokenizer(
                list(texts[start : start + 128]), padding=True, truncation=True,
                max_length=limit, return_tensors="pt",
            )  # fmt: skip
            with torch.inference_mode():
                parts.append(text(**tokens).text_embeds.float().numpy())
        return np.concatenate(parts)

    return embed


def letters(texts: Sequence[str]) -> NDArray[Any]:
    """A text model that needs no weights: counts of letter triples. For trying things out."""
    size = 4096
    out = np.zeros((len(texts), size))
    for row, text in enumerate(texts):
        padded = f"  {normalise(text)} "
        for k in range(len(padded) - 2):
            code = 0
            for letter in padded[k : k + 3]:
                code = (code * 257 + ord(letter)) % 1_000_003
            out[row, code % size] += 1
    return out


# ------------------------------------------------------------------------------- the audit


def leakage(test: Vocabulary, training: Vocabulary, found: Similarity) -> Report:
    """How much a test vocabulary was known beforehand (OVSNet, Table 1 and Fig. 1a)."""
    shared = _overlap(test, training)
    values = found.values
    return Report(
        title=f"leakage of {training.title} into {test.title}",
        metrics={
            "mean": float(values.mean()),
            "median": float(np.median(values)),
            "min": float(values.min()),
            "max": float(values.max()),
            "share_above_0.8": float((values > 0.8).mean()),
            "identical_words": float(len(shared)),
            "per_class": dict(zip(test.names, map(float, values), strict=True)),
        },
        protocol={
            "protocol": "leakage",
            "similarity": "largest cosine of a class's words with any training word",
            **found.engine,
            "identical": shared,
        },
        vocabulary={test.title: test.digest, training.title: training.digest},
    )


def _overlap(test: Vocabulary, training: Vocabulary) -> list[str]:
    known = {normalise(word) for category in training.categories for word in category.words}
    return [c.name for c in test.categories if any(normalise(w) in known for w in c.words)]


def draw_distribution(found: dict[str, Similarity], path: Path) -> None:
    """Histograms of similarity, one colour a vocabulary (Fig. 1a)."""
    figure = new_figure("Drawing a distribution", 7, 4)
    axes = figure.add_subplot()
    low = min(float(s.values.min()) for s in found.values())
    edges = np.linspace(min(low, 0.0) if low < 0 else np.floor(low * 20) / 20, 1.0, 31).tolist()
    for name, similarity in found.items():
        shares = np.full(len(similarity.values), 1 / len(similarity.values))
        axes.hist(
            similarity.values, bins=edges, weights=shares, histtype="stepfilled", alpha=0.4,
            label=f"{name} (mean {similarity.values.mean():.2f})",
        )  # fmt: skip
    axes.set_xlabel("similarity to the training vocabulary")
    axes.set_ylabel("share of classes")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def draw_map(
    groups: dict[str, tuple[Sequence[str], NDArray[Any]]], path: Path, seed: int = 0
) -> None:
    """Vectors of several vocabularies (or proxies) in one t-SNE picture (Fig. 4).

    Args:
        groups: name -> (words, (n, D) vectors).
        path: of the PNG.
        seed: of the embedding.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise MissingExtraError("Drawing a map of words", "plots") from None

    vectors = np.concatenate([_unit(np.asarray(v, np.float64)) for _, v in groups.values()])
    # Perplexity is about how many neighbours each point has; small vocabularies have fewer.
    perplexity = min(30.0, max(1.0, (len(vectors) - 1) / 3))
    places = TSNE(perplexity=perplexity, random_state=seed, init="pca").fit_transform(vectors)
    figure = new_figure("Drawing a map of words", 8, 8)
    axes = figure.add_subplot()
    start = 0
    for name, (words, _) in groups.items():
        own = places[start : start + len(words)]
        axes.scatter(own[:, 0], own[:, 1], s=12, alpha=0.7, label=f"{name} ({len(words)})")
        if len(vectors) <= 120:
            for word, (x, y) in zip(words, own, strict=True):
                axes.annotate(word, (x, y), fontsize=6)
        start += len(words)
    axes.set_axis_off()
    axes.legend(frameon=False, loc="lower left")
    save_figure(figure, path)
