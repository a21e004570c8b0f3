"""SegPrompt's training: three query groups in one decoder pass (paper, sections 3.2 to 3.4).

    q  class-agnostic queries, what is kept at inference
    v  candidates: K queries for each of C classes, made of that class's prompt
    e  examples: queries that look at given masks; their last state is what the cache learns

All share the decoder and its heads. Nobody but v sees v, and nobody but e sees e, so q's answers do
not depend on whether the others are there: inference is the class-agnostic model alone.

Shape legend: B pictures, N, V = C*K and E queries of q, v, e, T their sum, D width.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.likeness import Likeness
from anymask.methods.segprompt.model import SegPromptModel, SegPromptOutput
from anymask.methods.segprompt.prompt_cache import PromptCache
from anymask.methods.segprompt.prompt_loss import (
    PromptTargets,
    example_loss,
    mask_reader,
    prompt_loss,
)
from anymask.methods.segprompt.selection import (
    Candidates,
    Kind,
    choose_candidates,
    choose_examples,
)
from anymask.methods.segprompt.visibility import QueryAttention, visibility
from anymask.nn.masked_attention_decoder import DecoderOutput
from anymask.nn.point_sampling import generators
from anymask.nn.targets import Targets


class PromptLearningConfig(SegPromptConfig):
    """Configuration of :class:`PromptLearningModel`: the segmenter's, and the ablation switches.

    The defaults are the paper's rules; the released code's different behaviours are named options.

    Attributes:
        prompt_classes: C_tab, rows of the prompt tables.
        known_classes: rows with masks in training; None = all.
        unlabelled_classes: further rows of the vocabulary, without masks (released rule; empty = a
            clean open-world protocol).
        auxiliary: ``"segprompt"``, ``"vanilla"`` (an ordinary multi-class head on the same queries,
            Table 5) or ``"none"``.
        use_class_embedding: s of eq. 6 (Table 6).
        use_prompt: p of eq. 6 (Table 6).
        query_attention: RefAttn or one of its rivals (Table 7).
        example_supervision: ``"mask_and_class"`` (as released), ``"mask"`` (as the paper words it)
            or ``"off"`` (Table 5).
        slot_embedding: r of eq. 6: ``"learned"`` (the paper), ``"borrow"`` (as released: other
            class-agnostic queries every time), ``"borrow_detached"`` or ``"none"``.
        queries_per_class: K; 0 = no candidates: few-shot search only compares what the
            class-agnostic queries find.
        max_classes: C_max.
        max_examples: E.
        momentum: m of eq. 4.
        min_mask_area: smaller instances are no objects, examples or evidence of a class; pixels.
        cap_per_class: at most K instances of a class are matched by ``"v"``, or by ``"v_and_q"``
            (as released).
        assignment: ``"many_to_one"`` or ``"all_positive"`` (see ``prompt_loss.slot_goals``).
        mask_truth: see ``selection.choose_candidates``.
        padding_visible: real examples see padded ones (as released).
        prompt_projection: linear maps of p to content and position.
        prompt_head: v and e have a class head of their own.
        prompt_source: ``"cache"`` (the paper: moving averages, without gradients), or ``"batch"``:
            the prompt of a class is the mean of its examples in the *other* pictures of the batch,
            with gradients, and the cache's where there are none. Not in the paper: it teaches
            examples to describe their class, which few-shot search needs.
        likeness_weight: of the loss by which examples learn to tell whether two of them show the
            same class (see ``likeness.Likeness``); 0 = the paper, which has none.
        isolated_examples: examples do not see each other in training, as in few-shot search.
        class_sources: of every row the data set it belongs to, when several are mixed; examples of
            different ones are not compared, for their classes may mean the same. Empty = one.
        example_min_score: what few-shot search leaves out when it is not told.
        freeze_segmenter: only the comparison of examples learns; q and their masks stay bit for
            bit, and so do the prompts.
        prompt_loss_weights: multipliers of class, dice and mask term of v.
        prompt_no_object_weight: of v's class term.
        text_dim: width of fixed text embeddings that take p's place (section 5.4); 0 = none.
        text_encoder: folder or hub id of the CLIP that made them, for new words.
        freeze_backbone: the backbone does not learn.
    """

    model_type = "anymask_segprompt_prompts"

    prompt_classes: int = 1203
    known_classes: tuple[int, ...] | None = None
    unlabelled_classes: tuple[int, ...] = ()
    auxiliary: str = "segprompt"
    use_class_embedding: bool = True
    use_prompt: bool = True
    query_attention: str = "ref_invisible"
    example_supervision: str = "mask_and_class"
    slot_embedding: str = "learned"
    queries_per_class: int = 10
    max_classes: int = 30
    max_examples: int = 5
    momentum: float = 0.9
    min_mask_area: float = 100
    cap_per_class: str = "v"
    assignment: str = "many_to_one"
    mask_truth: str = "all_present"
    padding_visible: bool = False
    prompt_projection: bool = False
    prompt_head: bool = False
    prompt_source: str = "cache"
    likeness_weight: float = 0.0
    isolated_examples: bool = False
    class_sources: tuple[int, ...] = ()
    freeze_segmenter: bool = False
    example_min_score: float = 0.5
    prompt_loss_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    prompt_no_object_weight: float = 0.1
    text_dim: int = 0
    text_encoder: str = ""
    freeze_backbone: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        choices = {
            "auxiliary": ("segprompt", "vanilla", "none"),
            "example_supervision": ("mask_and_class", "mask", "off"),
            "slot_embedding": ("learned", "borrow", "borrow_detached", "none"),
            "cap_per_class": ("v", "v_and_q"),
            "assignment": ("many_to_one", "all_positive"),
            "mask_truth": ("all_present", "examples_only"),
            "prompt_source": ("cache", "batch"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                given = getattr(self, name)
                raise ValueError(f"{name} is {given!r}: use {', '.join(allowed)}")
        if (self.freeze_segmenter or not self.queries_per_class) and not self.likeness_weight:
            raise ValueError("freeze_segmenter and queries_per_class = 0 need a likeness_weight")
        if self.class_sources and len(self.class_sources) != self.prompt_classes:
            raise ValueError(
                f"class_sources has {len(self.class_sources)} entries for {self.prompt_classes} "
                "rows: one each"
            )
        visibility(1, 1, 1, 1, cast(QueryAttention, self.query_attention))
        super().__post_init__(**kwargs)


class PromptBranches(nn.Module):
    """What v and e need besides the segmenter: the tables of eq. 6 and the cache of eq. 4.

    Args:
        config: sizes and switches.
    """

    def __init__(self, config: PromptLearningConfig) -> None:
        super().__init__()
        self.config = config
        classes, dim, per_class = config.prompt_classes, config.hidden_dim, config.queries_per_class
        self.cache = PromptCache(classes, dim, config.momentum)
        self.class_content = self.class_position = None
        if config.use_class_embedding:
            self.class_content = nn.Embedding(classes, dim)
            self.class_position = nn.Embedding(classes, dim)
        self.slot_content = self.slot_position = None
        if config.slot_embedding == "learned":
            self.slot_content = nn.Embedding(per_class, dim)
            self.slot_position = nn.Embedding(per_class, dim)
        self.to_content = self.to_position = None
        if config.prompt_projection:
            self.to_content, self.to_position = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.text: nn.Linear | None = None
        if config.text_dim:
            self.text = nn.Linear(config.text_dim, dim)
            self.register_buffer("text_table", torch.zeros(classes, config.text_dim))
        self.class_head = nn.Linear(dim, config.num_classes + 1) if config.prompt_head else None
        self.likeness = Likeness(dim) if config.likeness_weight else None

    @torch.no_grad()
    def set_text(self, embeddings: Tensor) -> None:
        """Take fixed text embeddings (C_tab, text_dim) of any encoder as prompts (section 5.4).

        Raises:
            ValueError: the model was not made for text, or the shape is another.
        """
        if self.text is None:
            raise ValueError("this model takes no text: make it with text_dim > 0")
        table: Tensor = self.text_table  # type: ignore[assignment]
        if embeddings.shape != table.shape:
            raise ValueError(
                f"embeddings are {tuple(embeddings.shape)}; one of {table.shape[1]} numbers for "
                f"each of the {table.shape[0]} classes is needed"
            )
        table.copy_(embeddings)

    def prompts(self, classes: Tensor) -> Tensor:
        """p of classes (B, C), -1 = padding: (B, C, D)."""
        if self.text is not None:
            table: Tensor = self.text_table  # type: ignore[assignment]
            known = (classes >= 0)[..., None]
            return self.text(table[classes.clamp(min=0)]) * known  # type: ignore[no-any-return]
        return self.cache(classes)  # type: ignore[no-any-return]

    def candidates(
        self,
        prompts: Tensor,
        classes: Tensor | None,
        agnostic: tuple[Tensor, Tensor],
        borrowed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Candidate queries, class-major (eq. 6): content and position, each (B, C*K, D).

        Args:
            prompts: p, (B, C, D).
            classes: (B, C) rows of s; -1, or None for all, has no s.
            agnostic: content and position of q, (B, N, D) each, to borrow from.
            borrowed: (C, K) positions in q for the borrowing modes.
        """
        per_class = self.config.queries_per_class
        found = []
        for side, (project, own, slots) in enumerate(
            (
                (self.to_content, self.class_content, self.slot_content),
                (self.to_position, self.class_position, self.slot_position),
            )
        ):
            base = torch.zeros_like(prompts)
            if self.config.use_prompt:
                base = prompts if project is None else project(prompts)
            if own is not None and classes is not None:
                base = base + own(classes.clamp(min=0)) * (classes >= 0)[..., None]
            # Eq. 6: v = p + r + s.
            query = base[:, :, None].expand(-1, -1, per_class, -1)
            if slots is not None:
                query = query + slots.weight
            elif borrowed is not None:
                lent = agnostic[side][:, borrowed]
                query = query + (
                    lent.detach() if self.config.slot_embedding == "borrow_detached" else lent
                )
            found.append(query.flatten(1, 2))
        return found[0], found[1]

    def borrow(self, agnostic: int, classes: int, source: torch.Generator) -> Tensor | None:
        """Different class-agnostic queries for the slots of each class, (C, K), or None."""
        if not self.config.slot_embedding.startswith("borrow"):
            return None
        per_class = self.config.queries_per_class
        draws = [torch.randperm(agnostic, generator=source)[:per_class] for _ in range(classes)]
        return torch.stack(draws)


@dataclass(frozen=True)
class Selection:
    """What a picture contributes to the branches.

    Attributes:
        examples: positions of the instances that become example queries.
        candidates: classes that are tried.
    """

    examples: tuple[int, ...]
    candidates: Candidates


@dataclass
class Packed:
    """The three groups after one pass.

    Attributes:
        states: per prediction the normed states of (q, v, e).
        masks: per prediction their mask logits.
        examples: (B, E, D) un-normed last states of e: the prompts e^L of eq. 3.
        decoded: the decoder's own answer, all groups together.
    """

    states: list[tuple[Tensor, ...]]
    masks: list[tuple[Tensor, ...]]
    examples: Tensor
    decoded: DecoderOutput


class PromptLearningModel(PreTrainedModel):
    """A :class:`SegPromptModel` with the branches that teach it.

    ``model.segmenter`` is the product: save it alone, and nothing is left of the branches.
    """

    config_class = PromptLearningConfig
    base_model_prefix = "segprompt"
    main_input_name = "pixel_values"

    def __init__(self, config: PromptLearningConfig) -> None:
        super().__init__(config)
        self.segmenter = SegPromptModel(config)
        self.branches = PromptBranches(config) if config.auxiliary == "segprompt" else None
        self.vanilla_head = None
        if config.auxiliary == "vanilla":
            self.vanilla_head = nn.Linear(config.hidden_dim, config.prompt_classes + 1)
            several = copy.copy(config)
            several.num_classes = config.prompt_classes
            self.vanilla_criterion = type(self.segmenter.criterion)(several)
        self.reader = mask_reader(config)
        known = config.known_classes
        self.known = frozenset(range(config.prompt_classes) if known is None else known)
        self._freeze()
        self.post_init()

    def _freeze(self) -> None:
        if self.config.freeze_segmenter:
            assert self.branches is not None
            self.requires_grad_(False)
            assert self.branches.likeness is not None
            self.branches.likeness.requires_grad_(True)
        elif self.config.freeze_backbone:
            self.segmenter.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> PromptLearningModel:
        """Switch training on or off; what is frozen stays so."""
        super().train(mode)
        self._freeze()  # loading makes every parameter trainable again
        if self.config.freeze_segmenter:
            self.segmenter.eval()
        return self

    def _init_weights(self, module: nn.Module) -> None:
        self.segmenter._init_weights(module)

    # ------------------------------------------------------------------------------ one pass

    def packed(
        self,
        levels: list[Tensor],
        mask_features: Tensor,
        agnostic: tuple[Tensor, Tensor],
        candidates: tuple[Tensor, Tensor],
        example_masks: Tensor,
        *,
        inner_features: Tensor | None = None,
        real_examples: Tensor | None = None,
        isolated: bool = False,
    ) -> Packed:
        """Decode q, v and e together.

        Args:
            levels, mask_features: of the pixel decoder.
            agnostic, candidates: content and position of q (B, N, D) and v (B, V, D).
            example_masks: (B, E, H, W) float 0 or 1; empty ones look everywhere.
            inner_features: see the decoder.
            real_examples: (B, E) bool; padded examples are then hidden from the real ones.
            isolated: every example sees itself alone.
        """
        batch, num_examples = example_masks.shape[:2]
        sizes = [agnostic[0].shape[1], candidates[0].shape[1], num_examples]
        nothing = agnostic[0].new_zeros(batch, num_examples, agnostic[0].shape[2])
        content = torch.cat([agnostic[0], candidates[0], nothing], 1)
        position = torch.cat([agnostic[1], candidates[1], nothing], 1)
        seen = self._visible(sizes, content.device, real_examples, isolated)
        decoded = self.segmenter.decoder(
            content,
            position,
            levels,
            mask_features,
            self_visible=seen,
            given_masks=example_masks if num_examples else None,
            inner_features=inner_features,
        )
        return Packed(
            [state.split(sizes, 1) for state in decoded.states],
            [masks.split(sizes, 1) for masks in decoded.masks],
            decoded.hidden[:, sizes[0] + sizes[1] :],
            decoded,
        )

    def _visible(
        self,
        sizes: list[int],
        device: torch.device,
        real_examples: Tensor | None,
        isolated: bool,
    ) -> Tensor | None:
        """(1 or B, 1, T, T) bool, or None when q is alone."""
        if not sizes[1] and not sizes[2]:
            return None
        per_class = self.config.queries_per_class
        seen = visibility(
            sizes[0],
            sizes[1] // max(1, per_class),
            per_class,
            sizes[2],
            self.config.query_attention,
            device,
        )[None, None]
        first = sizes[0] + sizes[1]
        if isolated:
            alone = torch.eye(sizes[2], dtype=torch.bool, device=device)
            seen = seen.clone()
            seen[:, :, first:, first:] = alone
        if real_examples is not None and sizes[2]:
            seen = seen.repeat(len(real_examples), 1, 1, 1)
            # A padded example still sees the padded ones, so that no row is empty.
            same = real_examples[:, :, None] == real_examples[:, None, :]
            seen[:, 0, first:, first:] &= same
        return seen

    def heads(self, state: Tensor) -> Tensor:
        """Class logits of v and e."""
        assert self.branches is not None
        own = self.branches.class_head
        return (self.segmenter.class_head if own is None else own)(state)  # type: ignore[no-any-return]

    # ------------------------------------------------------------------------------- training

    def forward(
        self, pixel_values: Tensor, targets: list[Targets] | None = None, **_: Any
    ) -> SegPromptOutput:
        """Train on a batch; without targets this is the segmenter.

        Args:
            pixel_values: (B, 3, H, W) float, normalised, sides multiples of 32.
            targets: per picture; ``labels`` are rows of the prompt tables.
        """
        if targets is None:
            return self.segmenter(pixel_values)  # type: ignore[no-any-return]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_segmenter):
            mask_features, levels = self.segmenter.encode(pixel_values)
        return self.learn(mask_features, levels, targets)

    def learn(
        self,
        mask_features: Tensor,
        levels: list[Tensor],
        targets: list[Targets],
        selection: list[Selection] | None = None,
    ) -> SegPromptOutput:
        """The losses of all branches from encoded pictures.

        Args:
            mask_features, levels: of ``segmenter.encode``.
            targets: one per picture.
            selection: examples and candidates; None = choose them.
        """
        config, branches = self.config, self.branches
        agnostic = self.segmenter.queries(levels[-1])
        inner = mask_features
        if config.dense_loss:
            inner = nn.functional.avg_pool2d(mask_features, 2)
        if branches is None:
            nothing = agnostic[0][:, :0]
            no_masks = mask_features.new_zeros(len(targets), 0, 1, 1)
            packed = self.packed(
                levels, mask_features, agnostic, (nothing, nothing), no_masks, inner_features=inner
            )
            output = self._agnostic_loss(packed, targets)
            if self.vanilla_head is not None:
                self._add(output, self._vanilla_loss(packed, targets))
            return output

        if selection is None:
            selection = [self.select(target) for target in targets]
        if config.freeze_segmenter:
            return self._compare(mask_features, levels, targets, selection)
        device = mask_features.device
        classes = torch.tensor([s.candidates.classes for s in selection], device=device)
        source = generators([targets[0].seed])[0]
        borrowed = branches.borrow(agnostic[0].shape[1], config.max_classes, source)
        masks, example_classes = self._examples(targets, selection)
        real = None if config.padding_visible else example_classes >= 0

        def decode(
            candidates: tuple[Tensor, Tensor],
            agnostic: tuple[Tensor, Tensor],
            shown: Tensor,
            real: Tensor | None,
        ) -> Packed:
            return self.packed(
                levels,
                mask_features,
                agnostic,
                candidates,
                shown,
                inner_features=inner,
                real_examples=real,
                isolated=config.isolated_examples,
            )

        # The prompts of this step are read before the cache takes its examples in.
        prompts = branches.prompts(classes)
        if config.prompt_source == "batch":
            nothing = agnostic[0][:, :0]
            first = decode((nothing, nothing), (nothing, nothing), masks, real)
            prompts = self._from_others(prompts, classes, first.examples, example_classes)
            candidates = branches.candidates(prompts, classes, agnostic, borrowed)
            rest = decode(candidates, agnostic, masks[:, :0], None)
            packed = Packed(
                [(*a[:2], b[2]) for a, b in zip(rest.states, first.states, strict=True)],
                [(*a[:2], b[2]) for a, b in zip(rest.masks, first.masks, strict=True)],
                first.examples,
                rest.decoded,
            )
        else:
            candidates = branches.candidates(prompts, classes, agnostic, borrowed)
            packed = decode(candidates, agnostic, masks, real)
        output = self._agnostic_loss(packed, targets)
        sources = generators([target.seed + 1 for target in targets], device)
        self._add(output, self._prompt_loss(packed, targets, selection, sources))
        if config.example_supervision != "off":
            self._add(output, self._example_loss(packed, targets, selection, sources))
        if branches.likeness is not None:
            # DEVIATION: the paper's examples learn to give back their masks, not to be compared.
            self._add(output, self._likeness_loss(packed.examples, example_classes))
        if self.training:
            branches.cache.update(packed.examples.flatten(0, 1), example_classes.flatten())
        return output

    def _compare(
        self,
        mask_features: Tensor,
        levels: list[Tensor],
        targets: list[Targets],
        selection: list[Selection],
    ) -> SegPromptOutput:
        """The loss of examples alone."""
        with torch.no_grad():
            nothing, _ = self.segmenter.queries(levels[-1])
            nothing = nothing[:, :0]
            masks, classes = self._examples(targets, selection)
            packed = self.packed(
                levels,
                mask_features,
                (nothing, nothing),
                (nothing, nothing),
                masks,
                real_examples=classes >= 0,
                isolated=self.config.isolated_examples,
            )
        loss, parts = self._likeness_loss(packed.examples, classes)
        return SegPromptOutput(loss=loss, loss_parts=parts)

    def _likeness_loss(self, examples: Tensor, classes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.branches is not None
        assert self.branches.likeness is not None
        flat, sources = classes.flatten(), None
        if self.config.class_sources:
            table = torch.tensor(self.config.class_sources, device=flat.device)
            sources = table[flat.clamp(min=0)]
        loss, parts = self.branches.likeness.loss(examples.flatten(0, 1), flat, sources)
        return self.config.likeness_weight * loss, parts

    @staticmethod
    def _from_others(
        prompts: Tensor, classes: Tensor, examples: Tensor, example_classes: Tensor
    ) -> Tensor:
        """Prompts (B, C, D) with those replaced that other pictures have examples (B, E, D) of."""
        # DEVIATION: eq. 4 takes prompts from the cache, which no gradient passes.
        same = classes[:, :, None, None] == example_classes[None, None]  # B, C, B', E
        same &= (classes >= 0)[:, :, None, None]
        own = torch.arange(len(classes), device=classes.device)
        same[own, :, own] = False
        share = same.flatten(2).to(examples)
        count = share.sum(-1, keepdim=True)
        mean = share @ examples.flatten(0, 1) / count.clamp(min=1)
        return torch.where(count > 0, mean, prompts)

    def select(self, target: Targets) -> Selection:
        """Examples and candidates of a picture, drawn with its own seed."""
        config, rng = self.config, np.random.default_rng((target.seed, 1))
        labels = target.labels.tolist()
        areas = target.masks.flatten(1).sum(1).tolist() if len(labels) else []
        examples = choose_examples(
            labels,
            areas,
            known=self.known,
            rng=rng,
            max_examples=config.max_examples,
            min_area=config.min_mask_area,
        )
        candidates = choose_candidates(
            labels,
            areas,
            known=self.known,
            rng=rng,
            unlabelled=config.unlabelled_classes,
            negatives=target.negatives,
            not_exhaustive=target.not_exhaustive,
            image_labels=target.image_labels,
            max_classes=config.max_classes,
            min_area=config.min_mask_area,
            mask_truth=config.mask_truth,  # type: ignore[arg-type]
            example_classes={labels[k] for k in examples},
        )
        return Selection(tuple(examples), candidates)

    # -------------------------------------------------------------------------- the branches

    def _agnostic_loss(self, packed: Packed, targets: list[Targets]) -> SegPromptOutput:
        segmenter = self.segmenter
        final, quality = packed.states[-1][0], segmenter.quality_head
        output = SegPromptOutput(
            class_logits=segmenter.class_head(final),
            mask_logits=packed.masks[-1][0],
            quality_logits=None if quality is None else quality(final)[..., 0],
        )
        truth = []
        for target in targets:
            rows = self._main_rows(target)
            labels = torch.zeros(len(rows), dtype=torch.long, device=target.labels.device)
            truth.append(replace(target, masks=target.masks[rows], labels=labels))
        output.loss, output.loss_parts = segmenter.criterion(
            [segmenter.class_head(states[0]) for states in packed.states],
            [masks[0] for masks in packed.masks],
            output.quality_logits,
            truth,
        )
        return output

    def _main_rows(self, target: Targets) -> Tensor:
        """Instances that the class-agnostic queries should find."""
        keep = [k for k, c in enumerate(target.labels.tolist()) if c in self.known]
        rows = torch.tensor(keep, dtype=torch.long, device=target.labels.device)
        areas = target.masks[rows].flatten(1).sum(1)
        rows = rows[areas > self.config.min_mask_area]
        return self._capped(target, rows) if self.config.cap_per_class == "v_and_q" else rows

    def _capped(self, target: Targets, rows: Tensor) -> Tensor:
        """At most K instances of a class, drawn with the picture's own seed."""
        rng, taken = np.random.default_rng((target.seed, 2)), []
        labels = target.labels[rows].tolist()
        for label in sorted(set(labels)):
            mine = [k for k, other in enumerate(labels) if other == label]
            if len(mine) > self.config.queries_per_class:
                mine = rng.choice(mine, self.config.queries_per_class, replace=False).tolist()
            taken += mine
        return rows[torch.tensor(sorted(taken), dtype=torch.long, device=rows.device)]

    def _prompt_loss(
        self,
        packed: Packed,
        targets: list[Targets],
        selection: list[Selection],
        sources: list[torch.Generator],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config
        truth = []
        for target, chosen in zip(targets, selection, strict=True):
            pairs = zip(chosen.candidates.classes, chosen.candidates.kinds, strict=True)
            outlined = {c for c, kind in pairs if kind == Kind.OUTLINED}
            mine = [k for k, c in enumerate(target.labels.tolist()) if c in outlined]
            rows = torch.tensor(mine, dtype=torch.long, device=target.labels.device)
            rows = self._capped(target, rows)
            truth.append(PromptTargets(chosen.candidates, target.masks[rows], target.labels[rows]))
        return prompt_loss(
            config,
            self.reader,
            [self.heads(states[1]) for states in packed.states],
            [masks[1] for masks in packed.masks],
            truth,
            sources,
            per_class=config.queries_per_class,
            all_positive=config.assignment == "all_positive",
            no_object_weight=config.prompt_no_object_weight,
            part_weights=tuple(config.prompt_loss_weights),  # type: ignore[arg-type]
        )

    def _examples(
        self, targets: list[Targets], selection: list[Selection]
    ) -> tuple[Tensor, Tensor]:
        """Masks (B, E, H, W) float and classes (B, E) of the examples, padded with empty and -1."""
        size = targets[0].masks.shape[-2:]
        device, most = targets[0].masks.device, self.config.max_examples
        masks = torch.zeros(len(targets), most, *size, device=device)
        classes = torch.full((len(targets), most), -1, device=device)
        for b, (target, chosen) in enumerate(zip(targets, selection, strict=True)):
            rows = torch.tensor(chosen.examples, dtype=torch.long, device=device)
            masks[b, : len(rows)] = target.masks[rows].float()
            classes[b, : len(rows)] = target.labels[rows]
        return masks, classes

    def _example_loss(
        self,
        packed: Packed,
        targets: list[Targets],
        selection: list[Selection],
        sources: list[torch.Generator],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        shown = [
            target.masks[torch.tensor(s.examples, dtype=torch.long, device=target.masks.device)]
            for target, s in zip(targets, selection, strict=True)
        ]
        return example_loss(
            self.config,
            self.reader,
            [self.heads(states[2]) for states in packed.states],
            [masks[2] for masks in packed.masks],
            shown,
            sources,
            with_class=self.config.example_supervision == "mask_and_class",
        )

    def _vanilla_loss(
        self, packed: Packed, targets: list[Targets]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """An ordinary multi-class Mask2Former on the same queries (Table 5)."""
        head = self.vanilla_head
        assert head is not None
        truth = []
        for target in targets:
            rows = self._main_rows(target)
            truth.append(replace(target, masks=target.masks[rows], labels=target.labels[rows]))
        total, parts = self.vanilla_criterion(
            [head(states[0]) for states in packed.states],
            [masks[0] for masks in packed.masks],
            None,
            truth,
        )
        return total, {f"vanilla_{name}": part for name, part in parts.items()}

    @staticmethod
    def _add(output: SegPromptOutput, more: tuple[Tensor, dict[str, Tensor]]) -> None:
        assert output.loss is not None
        output.loss = output.loss + more[0]
        output.loss_parts = {**(output.loss_parts or {}), **more[1]}
