"""What the frozen part of a model sees in pictures, kept in a folder.

Where a large part of a model never learns and pictures come again unchanged (in another epoch, in
another arm of a study), that part needs to look at every picture only once. Pictures that are cut
or coloured at random never come again: there it is of no use.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from anymask.data.formats.atomic import atomic_write
from anymask.nn.weights_digest import weights_digest

See = Callable[[Tensor], tuple[Tensor, ...]]


class FrozenFeatures:
    """Keeps features, a file a picture.

    Its name is a digest of the pixels, the frozen weights and whatever else decides, so one folder
    serves many runs and models; files can be removed at any time.

    Args:
        folder: made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._full = False

    def keep(self, part: nn.Module, see: See, settings: str = "") -> See:
        """The same as ``see``, from the folder where it was seen before.

        Args:
            part: the frozen module that decides what is seen; its weights must not change.
            see: (B, ...) pixels -> tensors with B rows, each row by itself.
            settings: what else decides.
        """
        precision = sorted({str(value.dtype) for value in part.state_dict().values()})
        model = f"{weights_digest(part)} {precision} {settings}"
        base = hashlib.blake2b(model.encode(), digest_size=16)

        def seen(pixels: Tensor) -> tuple[Tensor, ...]:
            kind = f"{pixels.dtype} {tuple(pixels.shape[1:])} {_autocast(pixels.device.type)}"
            keys = []
            for row in pixels:
                key = base.copy()
                key.update(kind.encode())
                key.update(_bytes(row))
                keys.append(key.hexdigest())
            found = {key: self._read(key) for key in keys}
            new = sorted({k: row for row, k in enumerate(keys) if found[k] is None}.values())
            if new:
                fresh = see(pixels[new])
                for place, row in enumerate(new):
                    own = tuple(tensor[place] for tensor in fresh)
                    found[keys[row]] = own
                    self._write(keys[row], own)
            columns = zip(*(found[key] or () for key in keys), strict=True)
            return tuple(torch.stack([x.to(pixels.device) for x in column]) for column in columns)

        return seen

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> tuple[Tensor, ...] | None:
        try:
            tensors = load_file(self._path(key))
        except (OSError, SafetensorError):  # missing or damaged: seen anew
            return None
        return tuple(tensors[str(k)] for k in range(len(tensors)))

    def _write(self, key: str, tensors: tuple[Tensor, ...]) -> None:
        if self._full:
            return
        rows = {str(k): tensor.detach().cpu().contiguous() for k, tensor in enumerate(tensors)}
        try:
            with atomic_write(self._path(key)) as stream:
                stream.write(save(rows))
        except OSError as error:  # training goes on without
            self._full = True
            print(f"note: no more features are kept in {self.folder}: {error}", file=sys.stderr)


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _autocast(device: str) -> str:
    return str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else ""
