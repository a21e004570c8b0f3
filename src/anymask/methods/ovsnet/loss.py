"""OVSNet's training losses: Mask2Former's against words, and Proxy Calibration (section 4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.methods.ovsnet.calibration import draw, proxies, proxy_loss, words_of
from anymask.methods.ovsnet.tuning import tuning_losses
from anymask.nn.distributed import mean_over_processes
from anymask.nn.losses import class_loss, class_weights, no_object_targets
from anymask.nn.point_loss import PointLoss
from anymask.nn.targets import Targets

if TYPE_CHECKING:
    from anymask.methods.ovsnet.configuration import OVSNetConfig


class OVSNetLoss(nn.Module):
    """Class, mask and dice loss of every prediction; proxies of the last one."""

    def __init__(self, config: OVSNetConfig) -> None:
        super().__init__()
        self.config = config
        self.points = PointLoss(config)

    def forward(
        self,
        model: Any,
        output: Any,
        inner_queries: list[Tensor],
        masks: list[Tensor],
        targets: list[Targets],
        pixel_values: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            model: the :class:`~anymask.methods.ovsnet.model.OVSNetModel`, with training words.
            output: of the last prediction.
            inner_queries: (B, N, D) F_Q^0 of the predictions before the last.
            masks: (B, N, h, w) logits of all predictions.
            targets: labels number the training words.
            pixel_values: (B, 3, H, W), which only tuning CLIP needs.

        Raises:
            RuntimeError: the model has no training words yet.
        """
        words = model.training_words
        if words is None:
            raise RuntimeError("set model.training_words before training (see text.py)")
        words = words.to(masks[-1].device)
        # The walk belongs to the last prediction; the inner ones are read as they are.
        logits = [model.query_logits(query, words) for query in inner_queries]
        logits.append(model.query_logits(output.query_embeds, words))
        total, parts, matches = self.points.matched(logits, masks, targets)

        queries = torch.cat([output.query_embeds[b][rows] for b, (rows, _) in enumerate(matches)])
        clips = torch.cat([output.clip_embeds[b][rows] for b, (rows, _) in enumerate(matches)])
        labels = torch.cat([t.labels[k] for t, (_, k) in zip(targets, matches, strict=True)])
        if self.config.proxy_weight:
            loss = self._proxies(queries, clips, labels, words, targets)
            total, parts["proxy"] = total + self.config.proxy_weight * loss, loss.detach()
        if self.config.clip_class_weight:
            by_clip = model.clip_logits(output.clip_embeds, words, output.clip_map)
            goal = no_object_targets(
                [t.labels for t in targets], matches, by_clip.shape[1], len(words)
            )
            weights = class_weights(goal, len(words), 0.0)
            loss = class_loss(by_clip.float(), goal, weights, weights.sum().clamp(min=1))
            total = total + self.config.clip_class_weight * loss
            parts["clip_class"] = loss.detach()
        if self.config.train_clip_trunk:
            more, named = tuning_losses(model, output, words, masks[-1], targets, pixel_values)
            total, parts = total + more, {**parts, **named}
        return total, parts

    def _proxies(
        self, queries: Tensor, clips: Tensor, labels: Tensor, words: Any, targets: list[Targets]
    ) -> Tensor:
        """L_PQ + L_PC over the matched queries of the whole batch."""
        count = mean_over_processes(torch.tensor(float(len(queries)), device=queries.device))
        count = count.clamp(min=1)
        if len(queries) == 0:
            return (queries.sum() + clips.sum()) * 0.0
        # A generator of its own: proxies on or off, the rest of the run sees the same numbers.
        seed = sum(target.seed for target in targets) % (2**31)
        generator = torch.Generator().manual_seed(seed)
        partner, alpha = draw(len(queries), self.config.proxy_gamma, generator, queries.device)
        alpha = alpha.to(queries.dtype)
        nearest = words_of(queries.detach(), words.rows.to(queries.dtype), words.counts, labels)
        mixed = proxies(nearest, partner, alpha)
        total = proxy_loss(proxies(F.normalize(queries, dim=-1), partner, alpha), mixed, count)
        if clips.requires_grad:  # frozen CLIP without a walk: a constant
            both = proxies(F.normalize(clips, dim=-1), partner, alpha)
            total = total + proxy_loss(both, mixed, count)
        return total
