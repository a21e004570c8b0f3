"""WOW-Seg's training step: all names of all pictures of a batch in one packed forward.

Shape legend: B rows, L tokens, R pictures, M masks, g tokens a side of a crop, V words.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F
from transformers import InternVLForConditionalGeneration
from transformers.utils import ModelOutput

from anymask.methods.wowseg.packed import (
    IGNORED,
    embeddings,
    fitting_mask,
    region_tokens,
    visual_tokens,
)
from anymask.nn.distributed import mean_over_processes


@dataclass
class NamingOutput(ModelOutput):
    """``loss``: scalar; ``loss_parts``: name -> scalar, for the log."""

    loss: Tensor | None = None
    loss_parts: dict[str, Tensor] | None = None


class WOWSegTraining(InternVLForConditionalGeneration):  # type: ignore[misc]
    """An InternVL whose forward is WOW-Seg's loss; saved, it is an InternVL again."""

    @classmethod
    def around(cls, model: InternVLForConditionalGeneration) -> WOWSegTraining:
        """A copy of an InternVL, to be trained.

        (``from_pretrained`` of a class that is not the library's own does not know the older names
        of this family's weights, and would leave the output head untrained.)
        """
        made = cls(model.config)
        made.load_state_dict(model.state_dict())
        return made

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        is_crop: Tensor,
        selectors: Tensor,
        input_ids: Tensor,
        labels: Tensor,
        position_ids: Tensor,
        allowed: Tensor,
    ) -> NamingOutput:
        """One step; arguments as ``collate.Collate`` makes them.

        Returns:
            ``loss``: mean cross-entropy of every taught token (specification 4.3), over all
            processes; ``loss_parts`` also has ``first``, the share of names' first tokens that
            would be chosen, which is no loss but says how far the run is.
        """
        tokens = visual_tokens(self, pixel_values)
        embeds = embeddings(self, input_ids, region_tokens(tokens, is_crop, selectors))
        hidden = self.model.language_model(
            inputs_embeds=embeds,
            attention_mask=fitting_mask(self, allowed, embeds.dtype),
            position_ids=position_ids,
            use_cache=False,
        ).last_hidden_state
        # Only what is taught goes through the table of 151,674 words.
        following = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
        taught = following != IGNORED
        logits = self.lm_head(hidden[taught]).float()
        wanted = following[taught]
        count = mean_over_processes(logits.new_tensor(float(len(wanted)))).clamp(min=1.0)
        loss = F.cross_entropy(logits, wanted, reduction="sum") / count
        # A name begins where the token before it is not taught.
        begins = (taught & (labels == IGNORED))[taught]
        right = (logits.detach().argmax(-1) == wanted)[begins].float()
        return NamingOutput(
            loss=loss,
            loss_parts={
                "names": loss.detach(),
                "first": right.mean() if len(right) else loss.new_zeros(()),
            },
        )
