"""Pictures with named masks -> one packed row each (WOW-Seg, specification 3 and 4.3).

Tags are given while a row is put together; nothing is searched for in the token numbers.

Shape legend: B rows, L tokens, R pictures (tiles and crops of all rows, in order), M masks of all
rows, g tokens a side of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import InternVLConfig

from anymask.image import Image
from anymask.methods.wowseg.cascade_attention_mask import (
    branch_mask,
    branch_positions,
    cascade_attention_mask,
)
from anymask.methods.wowseg.names import TRAINING_PROMPT
from anymask.methods.wowseg.packed import IGNORED
from anymask.methods.wowseg.picture import Encoding, Prepared, prepare
from anymask.methods.wowseg.prompt import SYSTEM, Prompt, make_prompt
from anymask.nn.text_tokens import padded_rows

Layout = Literal["branch", "released"]


@dataclass
class Row:
    """A row while it is put together.

    Attributes:
        ids: token numbers.
        labels: what is taught at each place; ``IGNORED`` = nothing.
        region, output: tags, see ``cascade_attention_mask``; in the branch layout ``region`` holds
            the branch.
    """

    ids: list[int]
    labels: list[int]
    region: list[int]
    output: list[int]

    def add(
        self, ids: Sequence[int], *, taught: bool = False, region: int = 0, output: int = 0
    ) -> None:
        """Append tokens of one kind."""
        self.ids += ids
        self.labels += ids if taught else [IGNORED] * len(ids)
        self.region += [region] * len(ids)
        self.output += [output] * len(ids)


@dataclass(frozen=True)
class Collate:
    """Samples -> keyword arguments of :class:`~anymask.methods.wowseg.training.WOWSegTraining`.

    Attributes:
        config: of the InternVL.
        tokenizer: its own.
        layout: ``"branch"``: every mask has its own suffix and its name ends with the end token, so
            that training equals answering; ``"released"``: all regions, one suffix, all names.
        region_rule, output_rule: of the released layout (Table 4).
        most_tiles: of a picture (4 in training).
        scale: of the window around a mask.
        encoding: see ``picture.prepare``.
        question, system: see ``prompt.make_prompt``.
    """

    config: InternVLConfig
    tokenizer: Any
    layout: Layout = "branch"
    region_rule: bool = True
    output_rule: bool = True
    most_tiles: int = 4
    scale: float = 2.0
    encoding: Encoding = "mask2token"
    question: str = TRAINING_PROMPT
    system: str = SYSTEM

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Samples with ``image`` (H, W, 3) uint8, ``masks`` (M, H, W) bool and ``names`` (M
        strings); perhaps ``jpeg`` (a seed, see ``picture.prepare``) and ``most_tiles``. Masks that
        are empty on the canvas are left out with their names.

        Returns:
            ``pixel_values`` (R, 3, S, S), ``is_crop`` (R,) bool, ``selectors`` (M, g, g) bool,
            ``input_ids``, ``labels``, ``position_ids`` (B, L) int64, ``allowed`` (B, 1, L, L) bool.
        """
        seen = [self.prepared(sample) for sample in samples]
        rows = [
            self.row(
                one.picture_tokens(self.cells),
                one.selectors.flatten(1).sum(1).tolist(),
                [sample["names"][k] for k in one.rows],
            )
            for one, sample in zip(seen, samples, strict=True)
        ]
        flags = [torch.tensor([False] * len(p.tiles) + [True] * len(p.rows)) for p in seen]
        ids, labels, region, output = (
            padded_rows([getattr(row, name) for row in rows], filler)
            for name, filler in (("ids", 0), ("labels", IGNORED), ("region", 0), ("output", 0))
        )
        lengths = torch.tensor([len(row.ids) for row in rows])
        keep = torch.arange(ids.shape[1])[None] < lengths[:, None]
        if self.layout == "branch":
            allowed, positions = branch_mask(region, keep), branch_positions(region)
        else:
            allowed = cascade_attention_mask(
                region, output, keep, region_rule=self.region_rule, output_rule=self.output_rule
            )
            positions = torch.arange(ids.shape[1]).expand_as(ids).contiguous()
        return {
            "pixel_values": torch.cat([torch.cat([p.tiles, p.crops_of_masks]) for p in seen]),
            "is_crop": torch.cat(flags),
            "selectors": torch.cat([p.selectors for p in seen]),
            "input_ids": ids,
            "labels": labels,
            "position_ids": positions,
            "allowed": allowed,
        }

    @property
    def cells(self) -> int:
        """Tokens of a tile or crop."""
        return int(self.config.image_seq_length)

    def prepared(self, sample: dict[str, Any]) -> Prepared:
        """A sample's tiles, crops and selectors."""
        vision: Any = self.config.vision_config
        return prepare(
            Image(np.ascontiguousarray(sample["image"].numpy())),
            list(sample["masks"].numpy()),
            most_tiles=sample.get("most_tiles") or self.most_tiles,
            scale=self.scale,
            side=int(vision.image_size[0]),
            grid=round(self.cells**0.5),
            encoding=self.encoding,
            jpeg=sample.get("jpeg"),
        )

    def row(self, picture_tokens: int, regions: Sequence[int], names: Sequence[str]) -> Row:
        """Put a row together.

        Args:
            picture_tokens: of the picture.
            regions: tokens of every region.
            names: of every region.
        """
        prompt = make_prompt(self.tokenizer, picture_tokens, self.question, self.system)
        row = Row([], [], [], [])
        row.add(prompt.prefix)
        if self.layout == "branch":
            for number, (tokens, name) in enumerate(zip(regions, names, strict=True), 1):
                row.add([*prompt.region(tokens), *prompt.suffix], region=number)
                row.add([*self._read(name), prompt.end], taught=True, region=number)
        else:
            self._released(row, prompt, regions, names)
        return row

    def _released(
        self, row: Row, prompt: Prompt, regions: Sequence[int], names: Sequence[str]
    ) -> None:
        for number, tokens in enumerate(regions, 1):
            row.add(prompt.region(tokens), region=number)
        row.add(prompt.suffix)
        for number, name in enumerate(names, 1):
            # Behind a separator a name begins with a space; the separator closes its name's part.
            row.add(self._read(name if number == 1 else f" {name}"), taught=True, output=number)
            last = number == len(names)
            row.add([prompt.end] if last else self._read(" ,"), taught=True, output=number)
        row.add(self._read("\n"), output=len(names))

    def _read(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
