"""Runs a tiny training in float64; started by ``test_data_parallel.py``, alone or by torchrun.

Usage: data_parallel_run.py OUT LOSS OPTIMIZER ANNOTATIONS IMAGES
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

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


def main(out: str, loss: str, optimizer: str, annotations: str, images: str) -> None:
    torch.set_num_threads(1)
    if loss.startswith("prompts"):
        prompts(out, loss == "prompts-dense", optimizer)
        return
    if loss == "words":
        words(out, optimizer)
        return
    if loss == "phrases":
        phrases(out, optimizer)
        return
    if loss == "names":
        names(out, optimizer)
        return
    if loss == "modes":
        modes(out, optimizer, Path(images).parent)
        return
    config = tiny_config(loss == "dense")
    recipe = Recipe(
        name="tiny",
        model=lambda: SegPromptModel(config).double(),
        data=lambda: Mixture(
            [Source(Path(annotations), Path(images))],
            [Phase(12, 64)],
            Augmentation(scale=(0.8, 1.2), anchor="anywhere"),
        ),
        collate=in_double(Collate(config)),
        batch_size=4,
        optimizer=optimizer,
        lr=1e-2,
        others_lr=1e-2,
        warmup=0,
        clip=0.0,
        average=0.5,
    )
    train(recipe, Path(out), device="cpu", checkpoint_every=2)


def prompts(out: str, dense: bool, optimizer: str) -> None:
    """The three branches on scenes: the cache takes examples of all processes in."""
    plain = tiny_config(dense).to_dict()
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
    recipe = Recipe(
        name="tiny-prompts",
        model=lambda: PromptLearningModel(config).double(),
        data=lambda: SceneSamples(8, 64, seed=3, class_aware=True),
        collate=in_double(Collate(config)),
        batch_size=4,
        optimizer=optimizer,
        lr=1e-3,
        others_lr=1e-3,
        warmup=0,
        clip=0.0,
    )
    train(recipe, Path(out), device="cpu", checkpoint_every=2)


def words(out: str, optimizer: str) -> None:
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

    recipe = Recipe(
        name="tiny-words",
        model=model,
        data=lambda: SceneSamples(8, 64, seed=3, class_aware=True, stuff=True),
        collate=in_double(WordsCollate(config)),
        batch_size=4,
        optimizer=optimizer,
        lr=1e-3,
        others_lr=1e-3,
        warmup=0,
        clip=0.0,
    )
    train(recipe, Path(out), device="cpu", checkpoint_every=2)


class Ragged(ScenePhrases):
    """3, 0, 1, 2, 3, ... phrases: processes never have the same number, one of them often none."""

    def __getitem__(self, index: int):
        sample = super().__getitem__(index)
        count = (3, 0, 1, 2)[index % 4]
        return {**sample, **{k: sample[k][:count] for k in ("texts", "instances")}}


def phrases(out: str, optimizer: str) -> None:
    """OpenWorldSAM on scenes, with another number of phrases in every picture."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "methods"))
    import openworldsam_tiny as tiny

    config = tiny.config(dice_weight=1.0, presence_weight=1.0)
    collate = PhraseCollate(config, phrase_tokenizer())
    config.reader_config.vocab_size = 1024

    def model():
        made = OpenWorldSAMModel(config)
        made.sam2.load_state_dict(tiny.sam2().model.state_dict())
        torch.manual_seed(1)
        tiny.noisy(made.adapter)
        return made.double()

    def collate_double(samples):
        batch = collate(samples)
        for name in ("pixel_values", "reader_pixels"):
            batch[name] = batch[name].double()
        return batch

    recipe = Recipe(
        name="tiny-phrases",
        model=model,
        data=lambda: Ragged(8, 64, 3),
        collate=collate_double,
        batch_size=4,
        optimizer=optimizer,
        lr=1e-3,
        others_lr=1e-3,
        warmup=0,
        clip=0.0,
    )
    train(recipe, Path(out), device="cpu", checkpoint_every=2)


class FewNames(SceneRegions):
    """Scenes of which every other one shows other numbers of regions, or none."""

    def __getitem__(self, index: int):
        sample = super().__getitem__(index)
        count = (3, 0, 1, 5)[index % 4]
        return {**sample, **{k: sample[k][:count] for k in ("masks", "names")}}


def names(out: str, optimizer: str) -> None:
    """WOW-Seg on scenes, with other numbers of regions and of letters in every picture."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "methods"))
    import wowseg_tiny as tiny

    start = tiny.model()
    asked = {"question": "<image> is", "system": "s", "most_tiles": 1}
    recipe = Recipe(
        name="tiny-names",
        model=lambda: WOWSegTraining.around(start).double(),
        data=lambda: FewNames(8, 64, 3),
        collate=in_double(NameCollate(start.config, tiny.tokenizer(), **asked)),
        batch_size=4,
        optimizer=optimizer,
        lr=1e-3,
        others_lr=1e-3,
        warmup=0,
        clip=0.0,
    )
    train(recipe, Path(out), device="cpu", checkpoint_every=2)


def modes(out: str, optimizer: str, folder: Path) -> None:
    """OSM on two data sets, with names of other lengths on every process."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "methods"))
    import osm_tiny as tiny

    folder.mkdir(exist_ok=True)
    sources = tiny.sources(folder / Path(out).name)
    run = MaskSamples(sources, [2, 2], 2, 56, 3)

    recipe = Recipe(
        name="tiny-modes",
        model=tiny.model,
        data=lambda: run,
        collate=in_double(MaskCollate(tiny.model().config, tiny.texts())),
        batch_size=4,
        optimizer=optimizer,
        lr=1e-3,
        others_lr=1e-3,
        warmup=0,
        clip=0.0,
        decay_all=True,
    )
    train(recipe, Path(out), device="cpu", checkpoint_every=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
