"""Runs tiny trainings in float64; started by ``test_data_parallel.py``, alone or by torchrun.

Usage: data_parallel_run.py OUT FAMILY...: every family trains in OUT/FAMILY, one after another.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import openworldsam_tiny
import osm_tiny
import torch
import wowseg_tiny
from pictures import write_coco

from anymask.methods.openworldsam import OpenWorldSAMModel
from anymask.methods.openworldsam.collate import Collate as PhraseCollate
from anymask.methods.osm.collate import Collate as MaskCollate
from anymask.methods.ovsnet import ClipConvNextConfig, OVSNetConfig, OVSNetModel
from anymask.methods.ovsnet.classification import Words
from anymask.methods.ovsnet.collate import Collate as WordsCollate
from anymask.methods.segprompt import SegPromptConfig, SegPromptModel
from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.methods.wowseg.collate import Collate as NameCollate
from anymask.methods.wowseg.training import WOWSegTraining
from anymask.training.mask_samples import MaskSamples
from anymask.training.mixture import Augmentation, Mixture, Phase, Source
from anymask.training.recipe import Recipe, train
from anymask.training.scene_phrases import ScenePhrases, phrase_tokenizer
from anymask.training.scene_regions import SceneRegions
from anymask.training.scene_samples import KNOWN, STUFF_NAMES, SceneSamples


def tiny_config(dense: bool) -> SegPromptConfig:
    return SegPromptConfig.pocket(
        pocket_widths=(8, 16, 16, 32),
        pocket_depths=(1, 1, 1, 1),
        hidden_dim=32,
        mask_dim=16,
        num_heads=4,
        decoder_layers=2,
        decoder_ffn_dim=32,
        num_queries=16,
        dense_loss=dense,
        federated=dense,
        quality_head=dense,
        num_points=64,
    )


def in_double(collate):
    """The same batches in float64."""

    def collate_double(samples):
        batch = collate(samples)
        return {**batch, "pixel_values": batch["pixel_values"].double()}

    return collate_double


def tiny_run(name, model, data, collate, optimizer="adamw", lr=1e-3, **changes) -> Recipe:
    return Recipe(
        name=f"tiny-{name}",
        model=model,
        data=data,
        collate=collate,
        batch_size=4,
        optimizer=optimizer,
        lr=lr,
        others_lr=lr,
        warmup=0,
        clip=0.0,
        **changes,
    )


def masks(config: SegPromptConfig, optimizer: str, data: Path) -> Recipe:
    """A class-agnostic segmenter on pictures of files."""
    truth = write_coco(data, count=5)
    return tiny_run(
        "masks",
        lambda: SegPromptModel(config).double(),
        lambda: Mixture(
            [Source(truth, data)],
            [Phase(12, 64)],
            Augmentation(scale=(0.8, 1.2), anchor="anywhere"),
        ),
        in_double(Collate(config)),
        optimizer,
        lr=1e-2,
        average=0.5,
    )


def dense(data: Path) -> Recipe:
    return masks(tiny_config(dense=True), "muon", data)


def points(data: Path) -> Recipe:
    return masks(tiny_config(dense=False), "adamw", data)


def prompts(data: Path) -> Recipe:
    """The three branches on scenes: the cache takes examples of all processes in."""
    plain = tiny_config(dense=True).to_dict()
    for name in ("model_type", "architectures", "transformers_version"):
        plain.pop(name, None)
    config = PromptLearningConfig(
        **plain,
        prompt_classes=len(KNOWN),
        queries_per_class=2,
        max_classes=5,
        max_examples=3,
        min_mask_area=8,
    )
    return tiny_run(
        "prompts",
        lambda: PromptLearningModel(config).double(),
        lambda: SceneSamples(8, 64, seed=3, class_aware=True),
        in_double(Collate(config)),
        "muon",
    )


def words(data: Path) -> Recipe:
    """OVSNet on scenes. Proxies mix the queries of one process, so they are left out."""
    clip = ClipConvNextConfig.small(depths=(1, 1, 1, 1), widths=(8, 16, 16, 32), text_layers=1)
    config = OVSNetConfig.scenes(
        clip_config=clip, queries="learned", hidden_dim=32, mask_dim=16, num_heads=4,
        decoder_layers=2, decoder_ffn_dim=32, num_queries=9, num_points=64, proxy_weight=0.0,
        aggregation="none",
    )  # fmt: skip

    def model() -> OVSNetModel:
        made = OVSNetModel(config).double()
        count = len(KNOWN) + len(STUFF_NAMES)
        rows = torch.nn.functional.normalize(torch.randn(count, clip.embed_dim), dim=-1)
        made.training_words = Words(rows, (1,) * count, torch.ones(count, dtype=torch.bool))
        return made

    return tiny_run(
        "words",
        model,
        lambda: SceneSamples(8, 64, seed=3, class_aware=True, stuff=True),
        in_double(WordsCollate(config)),
    )


class Ragged(ScenePhrases):
    """3, 0, 1, 2, 3, ... phrases: processes never have the same number, one of them often none."""

    def __getitem__(self, index: int):
        sample = super().__getitem__(index)
        count = (3, 0, 1, 2)[index % 4]
        return {**sample, **{k: sample[k][:count] for k in ("texts", "instances")}}


def phrases(data: Path) -> Recipe:
    """OpenWorldSAM on scenes, with another number of phrases in every picture."""
    config = openworldsam_tiny.config(dice_weight=1.0, presence_weight=1.0)
    collate = PhraseCollate(config, phrase_tokenizer())
    config.reader_config.vocab_size = 1024

    def model():
        made = OpenWorldSAMModel(config)
        made.sam2.load_state_dict(openworldsam_tiny.sam2().model.state_dict())
        torch.manual_seed(1)
        openworldsam_tiny.noisy(made.adapter)
        return made.double()

    def collate_double(samples):
        batch = collate(samples)
        for name in ("pixel_values", "reader_pixels"):
            batch[name] = batch[name].double()
        return batch

    return tiny_run("phrases", model, lambda: Ragged(8, 64, 3), collate_double)


class FewNames(SceneRegions):
    """Scenes of which every other one shows other numbers of regions, or none."""

    def __getitem__(self, index: int):
        sample = super().__getitem__(index)
        count = (3, 0, 1, 5)[index % 4]
        return {**sample, **{k: sample[k][:count] for k in ("masks", "names")}}


def names(data: Path) -> Recipe:
    """WOW-Seg on scenes, with other numbers of regions and of letters in every picture."""
    start = wowseg_tiny.model()
    asked = {"question": "<image> is", "system": "s", "most_tiles": 1}
    return tiny_run(
        "names",
        lambda: WOWSegTraining.around(start).double(),
        lambda: FewNames(8, 64, 3),
        in_double(NameCollate(start.config, wowseg_tiny.tokenizer(), **asked)),
    )


def modes(data: Path) -> Recipe:
    """OSM on two data sets, with names of other lengths on every process."""
    run = MaskSamples(osm_tiny.sources(data), [2, 2], 2, 56, 3)
    return tiny_run(
        "modes",
        osm_tiny.model,
        lambda: run,
        in_double(MaskCollate(osm_tiny.model().config, osm_tiny.texts())),
        decay_all=True,
    )


FAMILIES = {made.__name__: made for made in (dense, points, prompts, words, phrases, names, modes)}


def main(out: str, *families: str) -> None:
    torch.set_num_threads(1)
    for family in families:
        with tempfile.TemporaryDirectory() as data:  # every process writes its own, all the same
            train(
                FAMILIES[family](Path(data)), Path(out) / family, device="cpu", checkpoint_every=2
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
