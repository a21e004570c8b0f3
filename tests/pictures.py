"""Small pictures with exact masks, made on the spot, for tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
from pycocotools import mask as coco_mask


def ellipses(
    seed: int, height: int = 72, width: int = 96, objects: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 3) uint8 of coloured ellipses and their visible masks (N, H, W) bool."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(0, 255, 3), np.uint8)
    y, x = np.mgrid[:height, :width]
    masks = np.zeros((objects, height, width), bool)
    for index in range(objects):
        cy, cx = rng.uniform(0.2, 0.8, 2) * (height, width)
        ry, rx = rng.uniform(0.1, 0.25, 2) * height
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
        masks[:index] &= ~inside
        masks[index] = inside
        image[inside] = rng.integers(0, 255, 3)
    return image, masks[masks.any((1, 2))]


def write_coco(folder: Path, count: int = 4, **how: int) -> Path:
    """Write pictures and a COCO instances file into ``folder``; returns the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        image, masks = ellipses(number, **how)
        name = f"picture{number}.png"
        PIL.Image.fromarray(image).save(folder / name)
        height, width = image.shape[:2]
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for mask in masks:
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            box = coco_mask.toBbox(rle).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    "area": float(mask.sum()),
                    "bbox": box,
                    "iscrowd": 0,
                }
            )
    truth = folder / "truth.json"
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "ellipse"}],
    }
    truth.write_text(json.dumps(content))
    return truth
