"""Names out of OSM's frozen language model: greedy, and how likely given names are.

Shape legend: R masks, N prompt tokens, L tokens of a text, V words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


@dataclass(frozen=True)
class Written:
    """Answers to R masks.

    Attributes:
        ids: token numbers of each name, without the end.
        probabilities: of each of these tokens.
        steps: (R, T, V) probabilities of every word at every step; zeros behind an answer's end.
    """

    ids: list[list[int]]
    probabilities: list[list[float]]
    steps: Tensor

    def confidence(self, row: int) -> float:
        """Product of a name's token probabilities, its end left out (specification 4.3)."""
        return float(torch.tensor(self.probabilities[row], dtype=torch.float64).prod())


@torch.inference_mode()
def write(
    language_model: Any,
    prompt: Tensor,
    ids: Tensor,
    end: int,
    longest: int,
    keep_steps: bool = False,
) -> Written:
    """Greedy names for all masks at once.

    Args:
        language_model: a causal transformers model.
        prompt: (R, N, D).
        ids: (1, L) or (R, L): the question, without padding.
        end: token that ends a name.
        longest: tokens of a name.
        keep_steps: also return the probabilities of all words.
    """
    words = language_model.get_input_embeddings()
    rows = len(prompt)
    text = words(ids.to(prompt.device)).expand(rows, -1, -1)
    embeds = torch.cat([prompt.to(text), text], 1)
    cache = DynamicCache(config=language_model.config)
    names: list[list[int]] = [[] for _ in range(rows)]
    sure: list[list[float]] = [[] for _ in range(rows)]
    open_rows = torch.ones(rows, dtype=torch.bool, device=prompt.device)
    steps = []
    for _ in range(longest):
        logits = language_model(
            inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[:, -1]
        chances = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
        if keep_steps:
            steps.append(chances * open_rows[:, None])
        best, chosen = chances.max(-1)
        for row in open_rows.nonzero()[:, 0].tolist():
            if int(chosen[row]) != end:
                names[row].append(int(chosen[row]))
                sure[row].append(float(best[row]))
        open_rows &= chosen != end
        if not open_rows.any():
            break
        embeds = words(chosen)[:, None]
    kept = torch.stack(steps, 1) if steps else torch.zeros(rows, 0, 0)
    return Written(names, sure, kept)


@torch.inference_mode()
def likelihoods(
    language_model: Any, prompt: Tensor, ids: Tensor, names: list[list[int]], end: int
) -> Tensor:
    """Mean log-probability a token of given names, their end included: (R, C).

    A vocabulary is scored so: long names are not punished for their length (specification 5.4).

    Args:
        language_model: a causal transformers model.
        prompt: (R, N, D).
        ids: (1, L): the question.
        names: C token lists.
        end: token that ends a name.
    """
    words = language_model.get_input_embeddings()
    text = words(ids.to(prompt.device))
    found = []
    for row in prompt:
        # What stands before a name is read once for all names.
        before = torch.cat([row[None].to(text), text], 1)
        cache = DynamicCache(config=language_model.config)
        first = language_model(
            inputs_embeds=before, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[:, -1:]
        cache.batch_repeat_interleave(len(names))
        length = max(len(name) for name in names) + 1
        whole = [[*name, end] for name in names]
        padded = torch.tensor([[*w, *[end] * (length - len(w))] for w in whole], device=text.device)
        rest = language_model(
            inputs_embeds=words(padded[:, :-1]), past_key_values=cache, use_cache=True
        ).logits
        logits = torch.cat([first.expand(len(names), -1, -1), rest], 1).float()
        gained = logits.log_softmax(-1).gather(2, padded[..., None])[..., 0]
        counts = torch.tensor([len(w) for w in whole], device=text.device)
        real = torch.arange(length, device=text.device)[None] < counts[:, None]
        found.append((gained * real).sum(1) / counts)
    return torch.stack(found)
