"""Fine-tune a class-agnostic checkpoint on one's own COCO-style file."""

from __future__ import annotations

from pathlib import Path

from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.model import SegPromptModel
from anymask.training.mixture import Augmentation, Mixture, Phase, Source
from anymask.training.recipe import Recipe


def finetune(
    data: Path,
    images: Path,
    init: Path,
    *,
    samples: int = 4_800,
    batch_size: int = 16,
    size: int | None = None,
    lr: float = 4e-4,
    exhaustive: bool = False,
    seed: int = 0,
) -> Recipe:
    """The recipe behind ``anymask train discover``.

    Args:
        data: COCO-style instances file; categories are not used.
        images: folder its ``file_name`` entries are relative to.
        init: folder of a SegPrompt model (``save_pretrained``) to start from.
        samples: length of the run in pictures.
        batch_size: pictures a step.
        size: side of the training canvas in pixels, a multiple of 32; None = the model's
            test-time long side, rounded up.
        lr: of Muon's matrices.
        exhaustive: every object in every picture has a mask, so what has none is background.
            Otherwise what is not outlined is not punished.
        seed: of samples.
    """
    model = SegPromptModel.from_pretrained(init)
    canvas = size or -(-model.config.image_long_side // 32) * 32
    source = Source(data, images, exhaustive=exhaustive)
    augmentation = Augmentation(
        scale=(0.6, 1.6), anchor="anywhere", color=0.3, copy_paste=0.0, min_area=12
    )
    return Recipe(
        name="discover",
        model=lambda: model,
        data=lambda: Mixture([source], [Phase(samples, canvas)], augmentation, seed=seed),
        collate=Collate(model.config),
        batch_size=batch_size,
        optimizer="muon",
        lr=lr,
        others_lr=lr / 2,
        warmup=20,
        decay="linear",
        decay_share=1.0,
        clip=0.0,
        average=0.99,
        seed=seed,
    )
