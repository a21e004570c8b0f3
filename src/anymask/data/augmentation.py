"""Augmentation of (picture, masks) pairs. Every function is pure and takes its own generator."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import PIL.Image
from numpy.typing import NDArray

PAD_VALUE = 128  # grey around a picture that does not fill its canvas, before normalisation


@dataclass(frozen=True)
class Sample:
    """A picture with its masks.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (G, H, W) bool; they may overlap.
        labels: (G,) int64.
        labelled: (H, W) bool: where everything that is there has a mask. Elsewhere an object may
            be present that nobody outlined, so finding one there is no mistake (federated truth).
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    labelled: NDArray[np.bool_]


def large_scale_jitter(
    sample: Sample,
    size: int,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.1, 2.0),
    flip: float = 0.5,
    anchor: str = "corner",
) -> Sample:
    """Random scale, crop and flip onto a square canvas (Ghiasi et al. 2021; SegPrompt 4.1).

    The picture is scaled so that it fits inside ``size * factor`` with ``factor`` uniform in
    ``scale``; what is larger than the canvas is cropped at a random place, what is smaller is
    padded with grey.

    Args:
        size: side of the canvas in pixels.
        scale: range of the factor.
        flip: probability of a horizontal flip.
        anchor: where a smaller picture lies: ``"corner"`` (top left, the paper's rule) or
            ``"anywhere"``.
    """
    height, width = sample.image.shape[:2]
    factor = rng.uniform(*scale) * size / max(height, width)
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
    # One offset per axis: where the canvas starts in the scaled picture (negative = padding).
    offsets = []
    for length in (tall, wide):
        slack = length - size
        if slack >= 0 or anchor == "anywhere":
            offsets.append(int(rng.integers(min(0, slack), max(0, slack) + 1)))
        else:
            offsets.append(0)
    top, left = offsets
    mirrored = bool(rng.random() < flip)

    y0, y1 = max(0, top), min(tall, top + size)
    x0, x1 = max(0, left), min(wide, left + size)
    box = (x0 * width / wide, y0 * height / tall, x1 * width / wide, y1 * height / tall)
    scaled = PIL.Image.fromarray(sample.image).resize(
        (x1 - x0, y1 - y0), PIL.Image.Resampling.BILINEAR, box=box
    )
    window = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    image = np.full((size, size, 3), PAD_VALUE, np.uint8)
    image[window] = np.asarray(scaled)
    rows = ((np.arange(y0, y1) + 0.5) * height / tall).astype(np.intp).clip(0, height - 1)
    columns = ((np.arange(x0, x1) + 0.5) * width / wide).astype(np.intp).clip(0, width - 1)
    masks = np.zeros((len(sample.masks), size, size), bool)
    masks[(slice(None), *window)] = sample.masks[:, rows[:, None], columns]
    labelled = np.ones((size, size), bool)  # there is certainly nothing in the padding
    labelled[window] = sample.labelled[rows[:, None], columns]
    if mirrored:
        image, masks, labelled = image[:, ::-1], masks[..., ::-1], labelled[:, ::-1]
    return Sample(image, masks, sample.labels, labelled)


def color_jitter(sample: Sample, rng: np.random.Generator, strength: float = 0.4) -> Sample:
    """Random brightness, contrast, saturation and tint; ``strength`` is the largest change."""
    image = sample.image.astype(np.float32)
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    tint = rng.uniform(1 - strength / 4, 1 + strength / 4, 3).astype(np.float32)
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
    image = grey[..., None] + (image - grey[..., None]) * np.float32(saturation)
    mean = np.float32(grey.mean())
    image = ((image - mean) * np.float32(contrast) + mean) * np.float32(brightness) * tint
    return Sample(image.clip(0, 255).astype(np.uint8), sample.masks, sample.labels, sample.labelled)


def distort_color(sample: Sample, rng: np.random.Generator) -> Sample:
    """SSD's colours (Liu et al. 2016): each of four changes happens with a chance of one half.

    Brightness +-32, contrast and saturation times 0.5..1.5, hue +-18 degrees.
    """
    image = sample.image.astype(np.float32)
    if rng.random() < 0.5:
        image += np.float32(rng.uniform(-32, 32))
    if rng.random() < 0.5:
        image *= np.float32(rng.uniform(0.5, 1.5))
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    hue = rng.uniform(-18, 18) if rng.random() < 0.5 else 0.0
    picture = PIL.Image.fromarray(image.clip(0, 255).astype(np.uint8))
    if saturation != 1.0 or hue:
        h, s, v = (np.asarray(band, np.float32) for band in picture.convert("HSV").split())
        h = (h + hue * 256 / 360) % 256
        bands = [h, (s * saturation).clip(0, 255), v]
        picture = PIL.Image.merge(
            "HSV", [PIL.Image.fromarray(band.astype(np.uint8)) for band in bands]
        ).convert("RGB")
    return replace(sample, image=np.asarray(picture))


def copy_paste(
    sample: Sample, donor: Sample, rng: np.random.Generator, share: float = 0.6
) -> Sample:
    """Paste a random choice of the donor's objects onto the picture (Ghiasi et al. 2021).

    Both have the same canvas. Masks underneath lose what is covered; those that lose nearly
    everything are dropped. Pasted area counts as labelled.

    Args:
        share: probability that an object of the donor is taken.
    """
    taken = (rng.random(len(donor.masks)) < share) & donor.masks.any((1, 2))
    if not taken.any():
        return sample
    chosen, labels = donor.masks[taken], donor.labels[taken]
    covered = np.asarray(chosen.any(0))
    image = np.where(covered[..., None], donor.image, sample.image)
    before = sample.masks.sum((1, 2))
    left = sample.masks & ~covered
    alive = left.sum((1, 2)) > 0.2 * before
    return Sample(
        image,
        np.concatenate([left[alive], chosen]),
        np.concatenate([sample.labels[alive], labels]),
        sample.labelled | covered,
    )


def drop_small(sample: Sample, min_area: int) -> Sample:
    """Drop masks of fewer than ``min_area`` pixels; their place stays labelled as it was."""
    keep = sample.masks.sum((1, 2)) >= min_area
    return Sample(sample.image, sample.masks[keep], sample.labels[keep], sample.labelled)
