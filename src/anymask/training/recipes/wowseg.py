"""The paper's run (WOW-Seg, section 4.1; specification 4.2): InternVL3-1B, all of it trained, on
LVIS, PACO and COCO-Stuff; AdamW 1e-5, cosine, batch 32. The paper goes through the data twice, the
released script once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from transformers import AutoConfig, InternVLForConditionalGeneration

from anymask.data.region_sources import read_meta
from anymask.methods.wowseg.collate import Collate
from anymask.methods.wowseg.convert import load_internvl
from anymask.methods.wowseg.training import WOWSegTraining
from anymask.nn.text_tokens import load_tokenizer
from anymask.training.recipe import Recipe
from anymask.training.region_samples import RegionSamples

BATCH = 32
WARMUP = 0.03  # of the run
Schedule = Literal["paper", "released"]


def wowseg(
    data: Path,
    init: Path,
    *,
    schedule: Schedule = "paper",
    samples: int | None = None,
    batch_size: int = BATCH,
    seed: int = 0,
    masks: int = 30,
    **collate: Any,
) -> Recipe:
    """The recipe.

    Args:
        data: a meta file, or one file of lines (``anymask data regions`` writes them).
        init: folder of an InternVL, in Hugging Face's or its authors' layout, with its tokenizer.
        schedule: two epochs or one.
        samples: length of the run in pictures instead.
        batch_size: pictures a step.
        seed: of the order.
        masks: of a picture at most; 1 = "single mask" (Table 4).
        collate: settings of :class:`~anymask.methods.wowseg.collate.Collate`; the released packed
            layout is ``layout="released"``.
    """
    model = start_from(init)
    tokenizer = load_tokenizer(init)
    run = RegionSamples(
        read_meta(data), 2 if schedule == "paper" else 1, batch_size, seed, masks, samples
    )
    return Recipe(
        name="wowseg",
        model=lambda: model,
        data=lambda: run,
        collate=Collate(model.config, tokenizer, **collate),
        batch_size=batch_size,
        optimizer="adamw",
        lr=1e-5,
        weight_decay=0.05,
        warmup=max(1, round(WARMUP * len(run) / batch_size)),
        decay="cosine",
        clip=1.0,
        seed=seed,
    )


def start_from(folder: Path) -> WOWSegTraining:
    """The InternVL of a folder, to be trained."""
    try:
        native = AutoConfig.from_pretrained(folder).model_type == "internvl"
    except ValueError:  # the authors' own kind, which transformers does not know
        native = False
    found = (
        InternVLForConditionalGeneration.from_pretrained(folder)
        if native
        else load_internvl(folder)
    )
    model = WOWSegTraining.around(found)
    model.activation_checkpointing_enable()
    return model.train()
