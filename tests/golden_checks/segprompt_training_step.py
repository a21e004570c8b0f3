"""A whole official training step: three branches, from feature maps to losses and gradients."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from anymask.methods.segprompt.convert import (
    DETECTRON2_HEAD,
    DETECTRON2_IGNORED,
    convert_prompt_branches,
    rename,
)
from anymask.methods.segprompt.prompt_learning import Packed, PromptLearningModel
from anymask.methods.segprompt.prompt_loss import (
    PointReader,
    PromptTargets,
    example_loss,
    prompt_loss,
)
from anymask.methods.segprompt.selection import Candidates, Kind
from anymask.nn.losses import class_loss, class_weights, dice_loss, mask_loss, no_object_targets
from anymask.nn.matching import MatchingCost, assign
from anymask.nn.point_sampling import sample_points
from golden_checks import pixel_decoder, segprompt_decoder
from golden_checks.compare import Row, below, close, divisors, equal, float_of, names, tensors

FORWARD, LOSS = 5e-5, 1e-4  # absolute, relative
GRADIENT, GRADIENT_REL = 1e-5, 2e-3
COST = MatchingCost(class_weight=2.0, mask_weight=5.0, dice_weight=5.0)
NO_OBJECT = 0.1
WEIGHTS = {"ce": 2.0, "mask": 5.0, "dice": 5.0}


def matches(folder: Path) -> bool:
    return any(
        {"input.res2", "output.selected.candidate_ids", "output.total"} <= data.keys()
        for data in tensors(folder).values()
    )


def check(folder: Path) -> list[Row]:
    rows = []
    named = folder / "gradient_names.json"
    content = json.loads(named.read_text()) if named.is_file() else {}
    for data in tensors(folder).values():
        with torch.enable_grad():
            rows += check_file(data, content)
    return rows


class StoredPoints(PointReader):
    """Reads masks at the stored points, in the order in which the losses ask."""

    def __init__(self, model: PromptLearningModel) -> None:
        super().__init__(model.config)
        self.for_costs: list[Tensor] = []
        self.for_pairs: list[Tensor] = []

    def cost(
        self, class_logits: Tensor, masks: Tensor, truth: Tensor, source: torch.Generator
    ) -> Tensor:
        labels = torch.zeros(len(truth), dtype=torch.long)
        return self.costs(class_logits, masks, labels, truth, self.for_costs.pop(0))

    def pairs(self, masks: Tensor, truth: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
        points = self.for_pairs[0][: len(masks)]
        self.for_pairs[0] = self.for_pairs[0][len(masks) :]
        return sample_points(masks, points), sample_points(truth, points)


def check_file(data: dict[str, Tensor], listed: object) -> list[Row]:
    features = [data[f"input.res{i}"] for i in range(2, 6)]
    levels_of = pixel_decoder.build(
        below(data, "state.sem_seg_head.pixel_decoder."), [f.shape[1] for f in features]
    )
    mask_features, levels = levels_of(features)
    official = below(data, "state.sem_seg_head.predictor.")
    ours = segprompt_decoder.our_keys(official)
    branches = convert_prompt_branches(below(data, "state."))
    padding = len(branches["cache.vectors"])
    slots = len(branches["slot_content.weight"])
    classes = data["output.selected.candidate_ids"][:, ::slots]
    examples = data["output.selected.example_labels"]
    examples = torch.where(examples == padding, -1, examples)
    example_masks = float_of(data["output.selected.example_masks"])

    def forward(heads: int) -> tuple[PromptLearningModel, Packed]:
        decoder, class_head = segprompt_decoder.build(ours, heads)
        model = segprompt_decoder.model_of(ours, branches, decoder, class_head)
        agnostic = model.segmenter.queries(levels[-1])
        assert model.branches is not None
        prompts = model.branches.prompts(classes)
        candidates = model.branches.candidates(prompts, classes, agnostic)
        packed = model.packed(
            levels,
            mask_features,
            agnostic,
            candidates,
            example_masks,
            inner_features=mask_features,
        )
        return model, packed

    def misfit(heads: int) -> float:
        with torch.no_grad():
            found = forward(heads)[1].masks[-1][0]
        return float((found - data["output.q.masks"]).abs().max())

    model, packed = forward(min(divisors(levels[0].shape[1]), key=misfit))
    rows = [
        close(
            "hidden_last",
            packed.decoded.hidden.transpose(0, 1),
            data["output.hidden_last"],
            FORWARD,
            LOSS,
        )
    ]
    logits = [[model.segmenter.class_head(state) for state in states] for states in packed.states]
    for position, group in enumerate("qve"):
        final = (("logits", logits[-1][position]), ("masks", packed.masks[-1][position]))
        for kind, mine in final:
            name = f"{group}.{kind}"
            rows.append(close(name, mine, data[f"output.{name}"], FORWARD, LOSS))

    total = torch.zeros(())
    for loss, more in (
        agnostic_branch(data, [each[0] for each in logits], [m[0] for m in packed.masks]),
        prompt_branch(data, model, logits, packed, classes, slots),
        example_branch(data, model, logits, packed, examples, example_masks),
    ):
        total = total + loss
        rows += more
    rows.append(close("total", total, data["output.total"], 1e-6, LOSS))

    cache = model.branches.cache  # type: ignore[union-attr]
    before = cache.vectors.clone()
    cache.update(packed.examples.flatten(0, 1), examples.flatten())
    changed = data["output.bank_changed_rows"]
    keep = changed < padding
    mine = (cache.vectors != before).any(1).nonzero()[:, 0]
    rows.append(equal("bank_changed_rows", mine, changed[keep]))
    values = data["output.bank_changed_values"][keep]
    rows.append(close("bank_changed_values", cache.vectors[changed[keep]], values, FORWARD, LOSS))

    total.backward()
    rows += gradients(data, listed, levels_of, model)
    return rows


def agnostic_branch(
    data: dict[str, Tensor], logits: list[Tensor], masks: list[Tensor]
) -> tuple[Tensor, list[Row]]:
    rows: list[Row] = []
    total = torch.zeros(())
    pictures = range(len(logits[0]))
    truth = [float_of(data[f"output.targets.agnostic.image{b}.masks"]) for b in pictures]
    labels = [torch.zeros(len(t), dtype=torch.long) for t in truth]
    num_masks = max(1.0, float(sum(map(len, truth))))
    for prediction in names(data, r"output\.agnostic\.match\.(\w+)\."):
        index = index_of(prediction)
        costs = []
        for b in pictures:
            key = f"output.agnostic.match.{prediction}.image{b}"
            points = data[f"{key}.points"]
            cost = COST(logits[index][b], masks[index][b], labels[b], truth[b], points)
            rows.append(close(f"{key[7:]}.cost", cost, data[f"{key}.cost"], FORWARD, LOSS))
            costs.append(cost)
        pairs = assign(costs)
        for b, (query, item) in enumerate(pairs):
            key = f"output.agnostic.match.{prediction}.image{b}"
            rows.append(equal(f"{key[7:]}.pred_index", query, data[f"{key}.pred_index"]))
            rows.append(equal(f"{key[7:]}.target_index", item, data[f"{key}.target_index"]))
        predicted = torch.cat([masks[index][b, query] for b, (query, _) in enumerate(pairs)])
        wanted = torch.cat([truth[b][item] for b, (_, item) in enumerate(pairs)])
        points = data[f"output.agnostic.loss_points.{prediction}"]
        at_points, at_truth = sample_points(predicted, points), sample_points(wanted, points)
        num_classes = logits[index].shape[-1] - 1
        targets = no_object_targets(labels, pairs, logits[index].shape[1], num_classes)
        losses = {
            "ce": class_loss(
                logits[index], targets, class_weights(targets, num_classes, NO_OBJECT)
            ),
            "mask": mask_loss(at_points, at_truth, num_masks),
            "dice": dice_loss(at_points, at_truth, num_masks),
        }
        suffix = "" if prediction == "final" else f"_{index}"
        for kind, loss in losses.items():
            name = f"loss_weighted.loss_{kind}{suffix}"
            weighted = WEIGHTS[kind] * loss
            total = total + weighted
            rows.append(close(name, weighted, data[f"output.{name}"], 1e-6, LOSS))
    return total, rows


def index_of(prediction: str) -> int:
    return -1 if prediction == "final" else int(prediction.removeprefix("aux"))


def compare_parts(
    data: dict[str, Tensor], parts: dict[str, Tensor], branch: str, mark: str, prediction: str
) -> list[Row]:
    """Our unweighted parts beside the weighted official losses of one prediction."""
    rows = []
    index = index_of(prediction)
    for kind, mine in (("ce", "class"), ("mask", "mask"), ("dice", "dice")):
        if branch == "prompt":
            suffix = "" if prediction == "final" else f"_{index}"
            name = f"loss_weighted.loss_{kind}{mark}{suffix}"
        else:
            suffix = mark if prediction == "final" else f"_{index}{mark}"
            name = f"loss_weighted.loss_{kind}{suffix}"
        weighted = WEIGHTS[kind] * parts[f"{branch}_{mine}"]
        rows.append(close(name, weighted, data[f"output.{name}"], 1e-6, LOSS))
    return rows


def prompt_branch(
    data: dict[str, Tensor],
    model: PromptLearningModel,
    logits: list[list[Tensor]],
    packed: Packed,
    classes: Tensor,
    slots: int,
) -> tuple[Tensor, list[Row]]:
    rows: list[Row] = []
    total = torch.zeros(())
    negative = data["output.selected.candidate_labels"][:, ::slots] == 1
    outlined = data["output.selected.has_mask_gt"][:, ::slots] == 1
    targets = []
    for b in range(len(classes)):
        kinds = torch.where(outlined[b], Kind.OUTLINED, Kind.PRESENT)
        kinds = torch.where(negative[b], Kind.ABSENT, kinds)
        candidates = Candidates(
            tuple(classes[b].tolist()), tuple(Kind(kind) for kind in kinds.tolist())
        )
        prefix = f"output.targets.prompt.image{b}"
        masks, labels = float_of(data[f"{prefix}.masks"]), data[f"{prefix}.labels"]
        targets.append(PromptTargets(candidates, masks, labels))
    reader = StoredPoints(model)
    for prediction in names(data, r"output\.prompt\.match\.(\w+)\."):
        index = index_of(prediction)
        keys = [f"output.prompt.match.{prediction}.image{b}" for b in range(len(targets))]
        allowed = [target.allowed(slots) for target in targets]
        costs = []
        for b, key in enumerate(keys):
            reader.for_costs = [data[f"{key}.points"]]
            v_logits, v_masks = logits[index][1][b], packed.masks[index][1][b]
            cost = reader.cost(v_logits, v_masks, targets[b].masks, torch.Generator())
            costs.append(cost)
            mine, theirs = cost[allowed[b]], data[f"{key}.cost"][allowed[b]]
            rows.append(close(f"{key[7:]}.cost", mine, theirs, FORWARD, LOSS))
        for key, (query, item) in zip(keys, assign(costs, allowed), strict=True):
            rows.append(equal(f"{key[7:]}.pred_index", query, data[f"{key}.pred_index"]))
            rows.append(equal(f"{key[7:]}.target_index", item, data[f"{key}.target_index"]))
        reader.for_costs = [data[f"{key}.points"] for key in keys]
        reader.for_pairs = [data[f"output.prompt.loss_points.{prediction}"]]
        loss, parts = prompt_loss(
            model.config,
            reader,
            [logits[index][1]],
            [packed.masks[index][1]],
            targets,
            [torch.Generator()] * len(targets),
            per_class=slots,
        )
        total = total + loss
        rows += compare_parts(data, parts, "prompt", "2", prediction)
    return total, rows


def example_branch(
    data: dict[str, Tensor],
    model: PromptLearningModel,
    logits: list[list[Tensor]],
    packed: Packed,
    examples: Tensor,
    example_masks: Tensor,
) -> tuple[Tensor, list[Row]]:
    rows: list[Row] = []
    total = torch.zeros(())
    shown = [masks[labels >= 0] for masks, labels in zip(example_masks, examples, strict=True)]
    reader = StoredPoints(model)
    for prediction in names(data, r"output\.example\.loss_points\.(\w+)"):
        index = index_of(prediction)
        reader.for_pairs = [data[f"output.example.loss_points.{prediction}"]]
        loss, parts = example_loss(
            model.config,
            reader,
            [logits[index][2]],
            [packed.masks[index][2]],
            shown,
            [torch.Generator()] * len(shown),
        )
        total = total + loss
        rows += compare_parts(data, parts, "example", "3_", prediction)
    return total, rows


def gradients(
    data: dict[str, Tensor], listed: object, levels_of: nn.Module, model: PromptLearningModel
) -> list[Row]:
    """Norms of all gradients and the stored gradients themselves, by official name."""
    mine: dict[str, Tensor] = {}
    modules = {
        "pixel_decoder.": levels_of,
        "decoder.": model.segmenter.decoder,
        "class_head.": model.segmenter.class_head,
        "queries.": model.segmenter.queries,
        "branches.": model.branches,
    }
    for prefix, module in modules.items():
        assert isinstance(module, nn.Module)
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                mine[prefix + name] = parameter.grad

    def official(name: str) -> Tensor | None:
        """Our gradient under an official name, put together again where we split."""
        state = {name: data[f"state.{name}"]}
        keys = [f"branches.{key}" for key in convert_prompt_branches(state)]
        if not keys:
            keys = list(rename(state, DETECTRON2_HEAD, DETECTRON2_IGNORED))
        pieces = [mine.get(key) for key in keys if "initialised" not in key]
        if not pieces or any(piece is None for piece in pieces):
            return None
        return torch.cat([piece for piece in pieces if piece is not None])

    rows: list[Row] = []
    for name in names(data, r"output\.grad\.(.+?)(?:\.rows|\.values)?$"):
        found = official(name)
        assert found is not None, name
        if f"output.grad.{name}.rows" in data:
            touched = (found != 0).any(1).nonzero()[:, 0]
            rows.append(equal(f"grad.{name}.rows", touched, data[f"output.grad.{name}.rows"]))
            found, theirs = found[touched], data[f"output.grad.{name}.values"]
        else:
            theirs = data[f"output.grad.{name}"]
        rows.append(close(f"grad.{name}", found, theirs, GRADIENT, GRADIENT_REL))
    if isinstance(listed, dict):
        listed = next(v for v in listed.values() if len(v) == len(data["output.grad_norms"]))
    assert isinstance(listed, list)
    norms = []
    for name in listed:
        found = official(name)
        norms.append(torch.zeros(()) if found is None else found.norm())
    rows.append(
        close("grad_norms", torch.stack(norms), data["output.grad_norms"], GRADIENT, GRADIENT_REL)
    )
    return rows
