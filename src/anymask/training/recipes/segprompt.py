"""The paper's runs (SegPrompt, section 5.1; the released configurations).

| recipe | what | iterations |
|---|---|---|
| ``lvis_ow_stage1`` | class-agnostic Mask2Former on LVIS-OW | 368,750 |
| ``lvis_ow_stage2`` | SegPrompt from stage 1, backbone frozen | 90,000 |
| ``lvis_ow_control`` | stage 2 without the branches: the same extra iterations | 90,000 |
| ``lvis_ow_text`` | stage 2 with words as prompts; seen classes are known by name only | 90,000 |
| ``lvis_full`` | SegPrompt on all of LVIS, from ImageNet weights | 368,750 |
| ``lvis_full_class_aware`` | Mask2Former with 1,203 classes, repeat-factor sampling | 368,750 |
| ``coco_to_lvis`` | SegPrompt on COCO, measured on LVIS | 90,000 |

None of these can be trained on a processor; they are here to be run elsewhere, and their
small-scale relatives are in ``training/studies``. The paper names no iteration counts: these are
the released configurations' (the length of stage 1 is uncertain).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoBackbone, PreTrainedModel

from anymask.data.coco import CocoDataset
from anymask.errors import CheckpointError
from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.model import SegPromptModel
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.methods.segprompt.text_prompts import ENCODER, ClipTexts
from anymask.training.mixture import Augmentation, Mixture, Phase, Source
from anymask.training.recipe import Recipe
from anymask.vocabulary import Vocabulary

BATCH = 16
LONG, SHORT = 368_750, 90_000
LONG_DROPS = (327_778 / LONG, 355_092 / LONG)
SHORT_DROPS = (60_000 / SHORT, 80_000 / SHORT)
SIZE = 1024
BACKBONE = "microsoft/resnet-50"  # ImageNet weights, stride in the 3x3 convolution
JITTER = Augmentation(scale=(0.1, 2.0), anchor="corner")
LVIS_ROWS = {number: number - 1 for number in range(1, 1204)}


def lvis_ow_stage1(
    data: Path, images: Path, *, backbone: str | None = BACKBONE, **how: Any
) -> Recipe:
    """Class-agnostic Mask2Former on ``lvis_v1_train_ow.json``."""
    config = how.pop("config", None) or SegPromptConfig.resnet50()
    source = Source(data, images)
    return _recipe(
        "lvis-ow-stage1", _with_backbone(SegPromptModel(config), backbone), source, LONG,
        LONG_DROPS, **how,
    )  # fmt: skip


def lvis_ow_stage2(data: Path, images: Path, stage1: Path, **how: Any) -> Recipe:
    """SegPrompt from the weights of stage 1; the backbone does not learn."""
    return _from_stage1("lvis-ow-stage2", data, images, stage1, "segprompt", **how)


def lvis_ow_control(data: Path, images: Path, stage1: Path, **how: Any) -> Recipe:
    """The same extra iterations without the branches: what stage 2 has to beat."""
    return _from_stage1("lvis-ow-control", data, images, stage1, "none", **how)


def lvis_ow_text(
    data: Path, images: Path, stage1: Path, *, text: str | Path = ENCODER, **how: Any
) -> Recipe:
    """Stage 2 with fixed text embeddings in the place of prompts (section 5.4): known classes have
    masks, of seen classes it is only said which pictures show them.

    Args:
        text: folder or hub id of a CLIP.
    """
    encode = ClipTexts.from_pretrained(text)
    lvis = Vocabulary.builtin("lvis")
    known = {number: LVIS_ROWS[number] for number in lvis.group("known").ids}
    seen = {number: LVIS_ROWS[number] for number in lvis.group("seen").ids}
    changes = {
        "text_dim": encode.width,
        "text_encoder": str(text),
        "use_class_embedding": False,
        **how.pop("changes", {}),
    }
    recipe = _from_stage1(
        "lvis-ow-text", data, images, stage1, "segprompt", named_only=seen, rows_of=known,
        changes=changes, **how,
    )  # fmt: skip
    model = recipe.model()
    assert isinstance(model, PromptLearningModel)
    assert model.branches is not None
    names = {number: name for name, number in zip(lvis.names, lvis.ids, strict=True)}
    model.branches.set_text(torch.from_numpy(encode([names[n] for n in LVIS_ROWS])))
    return recipe


def lvis_full(data: Path, images: Path, *, backbone: str | None = BACKBONE, **how: Any) -> Recipe:
    """SegPrompt on ``lvis_v1_train.json``, all 1,203 classes known."""
    config = how.pop("config", None) or PromptLearningConfig.resnet50()
    model = PromptLearningModel(config)
    _with_backbone(model.segmenter, backbone)
    return _recipe(
        "lvis-full", model, Source(data, images, rows=LVIS_ROWS), LONG, LONG_DROPS, **how
    )


def lvis_full_class_aware(
    data: Path, images: Path, *, backbone: str | None = BACKBONE, **how: Any
) -> Recipe:
    """Mask2Former with 1,203 classes; rare ones are drawn more often. Measure its best 300."""
    config = how.pop("config", None) or SegPromptConfig.resnet50(
        num_classes=len(LVIS_ROWS), class_names=Vocabulary.builtin("lvis").names
    )
    source = Source(data, images, rows=LVIS_ROWS, repeat_threshold=0.001)
    model = _with_backbone(SegPromptModel(config), backbone)
    return _recipe("lvis-full-class-aware", model, source, LONG, LONG_DROPS, **how)


def coco_to_lvis(data: Path, images: Path, stage1: Path, **how: Any) -> Recipe:
    """SegPrompt on COCO's 80 classes, to be measured on all of LVIS (Table 4)."""
    rows = {number: row for row, number in enumerate(sorted(CocoDataset.read(data).names))}
    return _from_stage1(
        "coco-to-lvis",
        data,
        images,
        stage1,
        "segprompt",
        rows=rows,
        prompt_classes=len(rows),
        **how,
    )


def _from_stage1(
    name: str,
    data: Path,
    images: Path,
    stage1: Path,
    auxiliary: str,
    rows: dict[int, int] | None = None,
    prompt_classes: int = len(LVIS_ROWS),
    named_only: dict[int, int] | None = None,
    rows_of: dict[int, int] | None = None,
    **how: Any,
) -> Recipe:
    before = SegPromptModel.from_pretrained(stage1)
    changes = how.pop("changes", {})
    known = tuple(LVIS_ROWS[i] for i in sorted(Vocabulary.builtin("lvis").group("known").ids))
    config = PromptLearningConfig(
        **{
            **before.config.settings(),
            "prompt_classes": prompt_classes,
            "known_classes": known if rows is None else None,
            "auxiliary": auxiliary,
            "freeze_backbone": True,
            **changes,
        }
    )
    model = PromptLearningModel(config)
    model.segmenter.load_state_dict(before.state_dict())
    labels = rows_of or rows or LVIS_ROWS
    source = Source(data, images, rows=labels, named_only=named_only or {})
    return _recipe(name, model, source, SHORT, SHORT_DROPS, **how)


def _with_backbone(model: SegPromptModel, backbone: str | None) -> SegPromptModel:
    """Put pre-trained weights into the backbone; None keeps the random ones."""
    if backbone is not None:
        try:
            weights = AutoBackbone.from_pretrained(backbone, config=model.config.backbone_config)
        except Exception as error:  # of transformers, its hub client or the network
            raise CheckpointError(
                f"the backbone {backbone} cannot be loaded: {error}. It comes from the Hugging "
                "Face hub: get it once where there is a network"
            ) from error
        model.backbone.load_state_dict(weights.state_dict())
    return model


def _recipe(
    name: str,
    model: PreTrainedModel,
    source: Source,
    iterations: int,
    drops: tuple[float, ...],
    *,
    size: int = SIZE,
    batch_size: int = BATCH,
    steps: int | None = None,
    seed: int = 1,
) -> Recipe:
    """Mask2Former's optimiser (section 5.1): AdamW 1e-4, backbone a tenth, norm 0.01."""
    samples = (steps or iterations) * batch_size
    return Recipe(
        name=name,
        model=lambda: model,
        data=lambda: Mixture([source], [Phase(samples, size)], JITTER, seed=seed),
        collate=Collate(model.config),
        batch_size=batch_size,
        optimizer="adamw",
        lr=1e-4,
        backbone_lr=0.1,
        weight_decay=0.05,
        warmup=0,
        decay="steps",
        drops=drops,
        clip=0.01,
        seed=seed,
    )
