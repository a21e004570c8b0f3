"""The official query decoder: the plain run, and all three groups of every other run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anymask.methods.segprompt.convert import (
    DETECTRON2_HEAD,
    DETECTRON2_IGNORED,
    convert_prompt_branches,
    rename,
)
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.nn.masked_attention_decoder import DecoderOutput, MaskedAttentionDecoder
from anymask.nn.position import sine_position
from golden_checks.compare import (
    Row,
    below,
    close,
    divisors,
    equal,
    float_of,
    names,
    tensors,
)

ATOL, RTOL = 2e-5, 1e-4
CACHE = 1e-5
# What every run changes of the released defaults.
RUNS: dict[str, dict[str, Any]] = {
    "borrow": {"slot_embedding": "borrow"},
    "learned": {},
    "proj_openhead": {"prompt_projection": True, "prompt_head": True},
    "ref_visible": {"query_attention": "ref_visible"},
    "self_nomask": {"query_attention": "unmasked"},
    "self_independent": {"query_attention": "self_independent"},
    "no_class_embedding": {"use_class_embedding": False},
    "inference_call": {"slot_embedding": "borrow"},
    "quirk_max0": {},
}


def matches(folder: Path) -> bool:
    wanted = {"input.features.0", "input.mask_features", "output.plain.layer0.logits"}
    return any(wanted <= data.keys() for data in tensors(folder).values())


def our_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official decoder keys -> ours; the prompt branches are left out."""
    official = {f"sem_seg_head.predictor.{key}": value for key, value in state.items()}
    return rename(official, DETECTRON2_HEAD, DETECTRON2_IGNORED)


def build(ours: dict[str, Tensor], heads: int) -> tuple[MaskedAttentionDecoder, nn.Linear]:
    """Our decoder and class head."""
    weights = below(ours, "decoder.")
    mask_dim, dim = weights["mask_embed.4.weight"].shape
    decoder = MaskedAttentionDecoder(
        dim,
        heads,
        ffn_dim=len(weights["layers.0.ffn.fc1.bias"]),
        num_layers=len(names(weights, r"layers\.(\d+)\.")),
        mask_dim=mask_dim,
        num_levels=len(weights["level_embed.weight"]),
    )
    decoder.load_state_dict(weights)
    class_head = nn.Linear(dim, len(ours["class_head.bias"]))
    class_head.load_state_dict(below(ours, "class_head."))
    return decoder.eval(), class_head.eval()


def run(
    decoder: MaskedAttentionDecoder,
    ours: dict[str, Tensor],
    levels: list[Tensor],
    mask_features: Tensor,
) -> tuple[DecoderOutput, dict[str, Any]]:
    """The plain decoder: its output, un-normed states and visibility of every layer."""
    taps: dict[str, Any] = {}
    handles = []
    for i, layer in enumerate(decoder.layers):
        handles.append(
            layer.register_forward_pre_hook(
                lambda _, args, i=i: taps.update({f"visible{i}": args[4]})
            )
        )
        handles.append(
            layer.register_forward_hook(
                lambda _, __, out, i=i: taps.update({f"hidden_after_layer{i}": out})
            )
        )
    batch = (len(mask_features), -1, -1)
    output = decoder(
        ours["queries.content.weight"].expand(batch),
        ours["queries.position.weight"].expand(batch),
        levels,
        mask_features,
        inner_features=mask_features,
    )
    for handle in handles:
        handle.remove()
    return output, taps


@torch.inference_mode()
def check(folder: Path) -> list[Row]:
    rows = []
    for data in tensors(folder).values():
        rows += check_file(data)
    return rows


def check_file(data: dict[str, Tensor]) -> list[Row]:
    rows: list[Row] = []
    ours = our_keys(below(data, "state."))
    count = len(names(data, r"input\.features\.(\d+)"))
    levels = [data[f"input.features.{i}"] for i in range(count)]
    for i, level in enumerate(levels):
        code = sine_position(level.shape[-2:], level.shape[1]).expand_as(level)
        name = f"pos_embed.level{i}"
        rows.append(close(name, code, data[f"output.{name}"], ATOL, RTOL))

    # The number of heads leaves no trace in the shapes: it is the one that fits the first layer.
    plain = below(data, "output.plain.")
    first = plain["hidden_after_layer0"].transpose(0, 1)

    def misfit(heads: int) -> float:
        _, taps = run(build(ours, heads)[0], ours, levels, data["input.mask_features"])
        return float((taps["hidden_after_layer0"] - first).abs().max())

    heads = min(divisors(first.shape[-1]), key=misfit)
    decoder, class_head = build(ours, heads)
    output, taps = run(decoder, ours, levels, data["input.mask_features"])
    logits = [class_head(state) for state in output.states]
    for i, visible in enumerate(taps[f"visible{i}"] for i in range(len(decoder.layers))):
        blocked = (~visible[:, 0]).to(torch.uint8)
        name = f"cross_attn_blocked.layer{i}"
        rows.append(equal(f"plain {name}", blocked, plain[name]))
        name = f"hidden_after_layer{i}"
        rows.append(close(f"plain {name}", taps[name].transpose(0, 1), plain[name], ATOL, RTOL))
    for i in range(len(logits)):
        for kind, mine in (("logits", logits[i]), ("masks", output.masks[i])):
            name = f"layer{i}.{kind}"
            rows.append(close(f"plain {name}", mine, plain[name], ATOL, RTOL))

    for run_name in names(data, r"output\.(\w+)\.hidden_last"):
        if run_name in RUNS:
            rows += check_run(data, ours, decoder, class_head, run_name)
    return rows


def model_of(
    ours: dict[str, Tensor],
    branches: dict[str, Tensor],
    decoder: MaskedAttentionDecoder,
    class_head: nn.Linear,
    **changes: Any,
) -> PromptLearningModel:
    """Our whole model around the official decoder; the backbone plays no part."""
    config = PromptLearningConfig(
        pocket_widths=(8, 8, 8, 8),
        pocket_depths=(1, 1, 1, 1),
        pixel_decoder="pyramid",
        hidden_dim=decoder.norm.weight.numel(),
        mask_dim=decoder.mask_embed[-1].out_features,
        num_heads=decoder.layers[0].self_attn.num_heads,
        decoder_layers=len(decoder.layers),
        decoder_ffn_dim=decoder.layers[0].ffn.fc1.out_features,
        num_queries=len(ours["queries.content.weight"]),
        num_classes=class_head.out_features - 1,
        prompt_classes=len(branches["cache.vectors"]),
        queries_per_class=len(branches["slot_content.weight"]),
        padding_visible=True,
        **changes,
    )
    model = PromptLearningModel(config).eval()
    model.segmenter.decoder = decoder
    model.segmenter.class_head = class_head
    model.segmenter.queries.load_state_dict(below(ours, "queries."))
    assert model.branches is not None
    wanted = model.branches.state_dict().keys()
    model.branches.load_state_dict({k: v for k, v in branches.items() if k in wanted})
    return model


def check_run(
    data: dict[str, Tensor],
    ours: dict[str, Tensor],
    decoder: MaskedAttentionDecoder,
    class_head: nn.Linear,
    run_name: str,
) -> list[Row]:
    """One run with candidates and examples, and its second step where there is one."""
    official = {f"sem_seg_head.predictor.{k}": v for k, v in below(data, "state.").items()}
    branches = convert_prompt_branches(official)
    padding = len(branches["cache.vectors"])
    classes = data["input.candidate_ids"][:, :: len(branches["slot_content.weight"])]
    labels = data["input.example_labels"]
    masks = float_of(data["input.example_masks"])
    if run_name == "inference_call":  # the released test path: class 0 and empty examples
        labels = torch.zeros(len(classes), len(branches["slot_content.weight"]), dtype=torch.long)
        classes = classes[:, :1] * 0
        masks = torch.zeros(len(classes), labels.shape[1], *masks.shape[-2:])
    if run_name == "quirk_max0":
        row = int(classes[0, 1])
        branches["cache.vectors"] = branches["cache.vectors"].clone()
        branches["cache.vectors"][row] = data["input.quirk_bank_row"]
        branches["cache.initialised"] = branches["cache.initialised"].clone()
        branches["cache.initialised"][row] = True
    model = model_of(ours, branches, decoder, class_head, **RUNS[run_name])
    labels = torch.where(labels == padding, -1, labels)
    rows: list[Row] = []
    steps = [run_name]
    if f"output.{run_name}.step2.hidden_last" in data:
        steps.append(f"{run_name}.step2")
    for step in steps:
        rows += check_step(data, model, step, classes, labels, masks)
    return rows


def check_step(
    data: dict[str, Tensor],
    model: PromptLearningModel,
    step: str,
    classes: Tensor,
    labels: Tensor,
    masks: Tensor,
) -> list[Row]:
    theirs, branches = below(data, f"output.{step}."), model.branches
    assert branches is not None
    count = len(names(data, r"input\.features\.(\d+)"))
    levels = [data[f"input.features.{i}"] for i in range(count)]
    mask_features = data["input.mask_features"]
    agnostic = model.segmenter.queries(levels[-1])
    borrowed = theirs.get("borrowed_query_indices")
    if borrowed is not None:  # the same draw for all pictures
        borrowed = borrowed[0].unflatten(0, (classes.shape[1], -1))
    candidates = branches.candidates(branches.prompts(classes), classes, agnostic, borrowed)
    taps: dict[str, Any] = {}
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, i=i: taps.update({f"visible{i}": args[4], "self": args[5]})
        )
        for i, layer in enumerate(model.segmenter.decoder.layers)
    ]
    packed = model.packed(
        levels, mask_features, agnostic, candidates, masks, inner_features=mask_features
    )
    for handle in handles:
        handle.remove()
    # The released test path decodes examples without their masks, which nothing of ours does.
    given = step != "inference_call"
    kept = packed.decoded.hidden.shape[1] - (0 if given else labels.shape[1])
    hidden = packed.decoded.hidden.transpose(0, 1)
    rows = [close(f"{step} hidden_last", hidden[:kept], theirs["hidden_last"][:kept], ATOL, RTOL)]
    if "self_attn_blocked" in theirs:
        blocked = (~taps["self"][0, 0]).to(torch.uint8)
        rows.append(equal(f"{step} self_attn_blocked", blocked, theirs["self_attn_blocked"]))
    for i in range(len(model.segmenter.decoder.layers)):
        name = f"cross_attn_blocked.layer{i}"
        if name in theirs:
            blocked = (~taps[f"visible{i}"][:, 0]).to(torch.uint8)
            rows.append(equal(f"{step} {name}", blocked, theirs[name]))
    for name, side in (("initial_content", 0), ("initial_position", 1)):
        if name in theirs:
            mine = torch.cat([agnostic[side], candidates[side]], 1)
            mine = torch.cat([mine, mine.new_zeros(len(mine), labels.shape[1], mine.shape[2])], 1)
            rows.append(close(f"{step} {name}", mine.transpose(0, 1), theirs[name], ATOL, RTOL))
    for position, group in enumerate("qve" if given else "qv"):
        for i, (states, found) in enumerate(zip(packed.states, packed.masks)):
            head = model.segmenter.class_head if group == "q" else model.heads
            for kind, mine in (("logits", head(states[position])), ("masks", found[position])):
                name = f"{group}.layer{i}.{kind}"
                if name in theirs:
                    rows.append(close(f"{step} {name}", mine, theirs[name], ATOL, RTOL))
    # Ours changes the cache in training only, and never for padding.
    if given:
        before = branches.cache.vectors.clone()
        branches.cache.update(packed.examples.flatten(0, 1), labels.flatten())
        wanted, after = data["input.bank_rows"], theirs["bank_after"]
        keep = wanted < len(before)
        if step == "quirk_max0":  # the released test for "not initialised" resets this vector
            keep &= wanted != classes[0, 1]
        rows.append(
            close(
                f"{step} bank_after",
                branches.cache.vectors[wanted[keep]],
                after[keep],
                CACHE,
                RTOL,
            )
        )
        if "bank_changed_rows" in theirs:
            changed = (branches.cache.vectors != before).any(1).nonzero()[:, 0]
            expected = theirs["bank_changed_rows"]
            rows.append(
                equal(f"{step} bank_changed_rows", changed, expected[expected < len(before)])
            )
    return rows
