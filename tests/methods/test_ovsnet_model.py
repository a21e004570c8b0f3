"""OVSNet as a model: saving, training, and published checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import detectron2_keys as keys
import ovsnet_tiny as tiny
import pytest
import torch
from pictures import ellipses
from torch import Tensor
from transformers import AutoModel

from anymask.errors import CheckpointError
from anymask.methods.ovsnet.classification import Words
from anymask.methods.ovsnet.convert import config_of_fcclip, convert_fcclip, load_fcclip
from anymask.methods.ovsnet.model import OVSNetModel
from anymask.nn.clip_convnext import ClipConvNext, contrastive_loss
from anymask.nn.open_clip_keys import config_of_open_clip, convert_open_clip
from anymask.nn.targets import Targets


def pixels(count: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(count, 3, 64, 96)


def words(classes: int = 3, dim: int = 24) -> Words:
    torch.manual_seed(2)
    rows = torch.nn.functional.normalize(torch.randn(classes + 1, dim), dim=-1)
    counts = (2,) + (1,) * (classes - 1)
    return Words(rows, counts, torch.tensor([True] + [False] * (classes - 1)))


def targets() -> list[Targets]:
    made = []
    for seed in (1, 2):
        _, masks = ellipses(seed, 64, 96)
        made.append(Targets(torch.from_numpy(masks), torch.arange(len(masks)) % 3, seed=seed))
    return made


def test_saving_and_loading(tmp_path: Path) -> None:
    model = tiny.model()
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(model(pixels()).clip_embeds, again(pixels()).clip_embeds)


def test_without_a_walk_it_is_fcclip() -> None:
    """omega = 0, in two ways, and the ensemble is left alone."""
    plain, still = tiny.model(aggregation="none"), tiny.model(omega=0.0)
    with torch.no_grad():
        a, b = plain(pixels()), still(pixels())
        assert torch.equal(plain.classify(a, words()), still.classify(b, words()))
        walked = tiny.model()
        moved = walked(pixels())
        assert not torch.allclose(walked.classify(moved, words()), plain.classify(a, words()))


def test_probabilities() -> None:
    for how in ("ensemble", "clip", "query"):
        model = tiny.model(classify_with=how)
        with torch.no_grad():
            found = model.classify(model(pixels()), words())
        assert found.shape == (2, 9, 4)
        assert torch.allclose(found.sum(-1), torch.ones(2, 9), atol=1e-5)


@pytest.mark.parametrize("aggregation", ["gfa", "none", "self", "cross"])
def test_training_learns(aggregation: str) -> None:
    model = tiny.model(aggregation=aggregation).train()
    model.training_words = words()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(12):
        output = model(pixels(), targets())
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is None for p in model.clip.parameters())  # frozen
    assert not model.clip.training
    assert set(output.loss_parts) == {"class", "mask", "dice", "proxy"}


def test_proxies_of_clip_train_the_queries() -> None:
    """Specification 4.3: with frozen CLIP, L_PC acts through the walk alone."""
    model = tiny.model(class_weight=0.0, mask_weight=0.0, dice_weight=0.0).train()
    model.training_words = words()
    model(pixels(), targets()).loss.backward()
    grad = model.class_embed[0].weight.grad
    assert grad is not None
    assert grad.abs().sum() > 0


def test_proxies_change_nothing_else_of_a_run() -> None:
    found = []
    for weight in (0.0, 1.0):
        model = tiny.model(proxy_weight=weight).train()
        model.training_words = words()
        parts = model(pixels(), targets()).loss_parts
        found.append({k: float(v) for k, v in parts.items() if k != "proxy"})
    assert found[0] == found[1]


def test_no_objects_is_legal() -> None:
    model = tiny.model().train()
    model.training_words = words()
    empty = [Targets(torch.zeros(0, 64, 96), torch.zeros(0, dtype=torch.long)) for _ in range(2)]
    loss = model(pixels(), empty).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_training_needs_words() -> None:
    with pytest.raises(RuntimeError, match="training_words"):
        tiny.model().train()(pixels(), targets())


def test_tuning_touches_the_trunk_with_its_own_losses_only() -> None:
    model = tiny.model(train_clip_trunk=True, aggregation="none", proxy_weight=0.0).train()
    model.training_words = words()
    model.start_tuning()
    output = model(pixels(), targets())
    assert {"mask_aware", "compensation"} <= set(output.loss_parts)
    assert float(output.loss_parts["compensation"]) == 0.0  # the student is still the teacher
    output.loss.backward()
    trunk = [p.grad for p in model.clip.trunk.encoder.parameters()]
    assert any(g is not None and g.abs().sum() > 0 for g in trunk)
    assert all(p.grad is None for p in model.clip.text.parameters())
    assert model.teacher is not None
    assert all(p.grad is None for p in model.teacher.parameters())

    alone = tiny.model(
        train_clip_trunk=True, aggregation="none", proxy_weight=0.0,
        mask_aware_weight=0.0, compensation_weight=0.0,
    ).train()  # fmt: skip
    alone.training_words = words()
    alone(pixels(), targets()).loss.backward()
    grads = [p.grad for p in alone.clip.trunk.parameters() if p.grad is not None]
    assert sum(float(g.abs().sum()) for g in grads) == 0.0


def test_the_contrastive_loss_knows_what_is_true() -> None:
    images = torch.eye(3)
    true = torch.eye(3, dtype=torch.bool)
    right = contrastive_loss(images, images, true, torch.tensor(20.0))
    wrong = contrastive_loss(images, images.roll(1, 0), true, torch.tensor(20.0))
    assert right < 1e-6 < 5 < wrong


# ----------------------------------------------------------------------- published checkpoints


def open_clip(
    widths: tuple[int, ...], depths: tuple[int, ...], dim: int, text: tuple[int, int], mlp: bool
) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of open_clip's ConvNeXt models, written down from the specification."""
    trunk = "visual.trunk"
    found: dict[str, tuple[int, ...]] = {f"{trunk}.stem.0.weight": (widths[0], 3, 4, 4)}
    found[f"{trunk}.stem.0.bias"] = (widths[0],)
    found |= keys.norm(f"{trunk}.stem.1", widths[0])
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if i:
            found |= keys.norm(f"{trunk}.stages.{i}.downsample.0", widths[i - 1])
            found[f"{trunk}.stages.{i}.downsample.1.weight"] = (width, widths[i - 1], 2, 2)
            found[f"{trunk}.stages.{i}.downsample.1.bias"] = (width,)
        for j in range(depth):
            block = f"{trunk}.stages.{i}.blocks.{j}"
            found[f"{block}.gamma"] = (width,)
            found[f"{block}.conv_dw.weight"] = (width, 1, 7, 7)
            found[f"{block}.conv_dw.bias"] = (width,)
            found |= keys.norm(f"{block}.norm", width)
            found |= keys.linear(f"{block}.mlp.fc1", 4 * width, width)
            found |= keys.linear(f"{block}.mlp.fc2", width, 4 * width)
    found |= keys.norm(f"{trunk}.head.norm", widths[-1])
    if mlp:
        found |= keys.linear("visual.head.mlp.fc1", 2 * dim, widths[-1])
        found["visual.head.mlp.fc2.weight"] = (dim, 2 * dim)
    else:
        found["visual.head.proj.weight"] = (dim, widths[-1])
    width, layers = text
    for i in range(layers):
        block = f"transformer.resblocks.{i}"
        found |= keys.norm(f"{block}.ln_1", width) | keys.norm(f"{block}.ln_2", width)
        found[f"{block}.attn.in_proj_weight"] = (3 * width, width)
        found[f"{block}.attn.in_proj_bias"] = (3 * width,)
        found |= keys.linear(f"{block}.attn.out_proj", width, width)
        found |= keys.linear(f"{block}.mlp.c_fc", 4 * width, width)
        found |= keys.linear(f"{block}.mlp.c_proj", width, 4 * width)
    found |= keys.norm("ln_final", width)
    found["token_embedding.weight"] = (49408, width)
    found["positional_embedding"] = (77, width)
    found["text_projection"] = (width, dim)
    found["logit_scale"] = ()
    return found


BASE = open_clip((128, 256, 512, 1024), (3, 3, 27, 3), 640, (640, 12), mlp=False)
LARGE = open_clip((192, 384, 768, 1536), (3, 3, 27, 3), 768, (768, 16), mlp=True)


def on_meta(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize(("shapes", "count"), [(BASE, 179_385_345), (LARGE, 351_772_609)])
def test_open_clip_at_full_size(shapes: dict[str, tuple[int, ...]], count: int) -> None:
    state = on_meta(shapes)
    with torch.device("meta"):
        model = ClipConvNext(config_of_open_clip(state))
    ours, expected = convert_open_clip(state), model.state_dict()
    assert {k: tuple(v.shape) for k, v in ours.items()} == {
        k: tuple(v.shape) for k, v in expected.items()
    }
    assert sum(p.numel() for p in model.parameters()) == count


def fcclip(clip: dict[str, tuple[int, ...]], queries: int, classes: int) -> dict[str, Any]:
    widths = {128: (128, 256, 512, 1024), 192: (192, 384, 768, 1536)}
    channels = widths[clip["visual.trunk.stem.0.weight"][0]]
    dim = clip["text_projection"][1]
    shapes = keys.head(channels, queries=queries, classes=classes)
    shapes = {k: v for k, v in shapes.items() if ".class_embed." not in k}
    predictor = "sem_seg_head.predictor"
    for i, out in enumerate((256, 256, dim)):
        shapes |= keys.linear(f"{predictor}.class_embed.layers.{i}", out, 256)
    shapes |= keys.norm(f"{predictor}._mask_pooling_proj.0", 256)
    shapes |= keys.linear(f"{predictor}._mask_pooling_proj.1", 256, 256)
    shapes |= {f"{predictor}.logit_scale": (), "void_embedding.weight": (1, dim)}
    return shapes | {f"backbone.clip_model.{k}": v for k, v in clip.items()}


@pytest.mark.parametrize(
    ("clip", "queries", "classes", "maft"),
    [(BASE, 250, 133, False), (LARGE, 250, 133, False), (BASE, 100, 171, True)],
    ids=["FC-CLIP base", "FC-CLIP large", "MAFT+ base"],
)
def test_fcclip_at_full_size(
    clip: dict[str, tuple[int, ...]], queries: int, classes: int, maft: bool
) -> None:
    shapes = fcclip(clip, queries, classes)
    if maft:
        dim = clip["text_projection"][1]
        cross = "cdt.cross_atten"
        shapes |= {f"{cross}.multihead_attn.in_proj_weight": (3 * dim, dim)}
        shapes |= {f"{cross}.multihead_attn.in_proj_bias": (3 * dim,)}
        shapes |= keys.linear(f"{cross}.multihead_attn.out_proj", dim, dim)
        shapes |= keys.norm(f"{cross}.norm", dim) | keys.linear(f"{cross}.MLP", dim, dim)
        shapes |= {f"backbone_t.clip_model.{k}": v for k, v in clip.items()}
    state = on_meta(shapes)
    config = config_of_fcclip(state)
    with torch.device("meta"):
        model = OVSNetModel(config)
    ours, expected = convert_fcclip(state), model.state_dict()
    assert {k: tuple(v.shape) for k, v in ours.items()} == {
        k: tuple(v.shape) for k, v in expected.items()
    }
    assert config.num_queries == queries
    assert config.text_transfer == ("semantic" if maft else None)
    if not maft:
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trained == pytest.approx(20.4e6 if clip is BASE else 20.7e6, rel=0.01)


def test_what_is_no_such_checkpoint(tmp_path: Path) -> None:
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no CLIP in it"):
        load_fcclip(tmp_path / "other.pth")
    torch.save(
        {"model": {"backbone.clip_model.logit_scale": torch.zeros(())}}, tmp_path / "part.pth"
    )
    with pytest.raises(CheckpointError, match=r"in open_clip's layout|incomplete"):
        load_fcclip(tmp_path / "part.pth")
    state = on_meta({"visual.unheard": (2,)})
    with pytest.raises(CheckpointError, match="unknown keys"):
        convert_open_clip(state)


def test_what_is_frozen_stays_so_after_loading(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path)
    again = OVSNetModel.from_pretrained(tmp_path).train()
    trained = {name.split(".")[0] for name, p in again.named_parameters() if p.requires_grad}
    assert "clip" not in trained
    assert "decoder" in trained
