"""OSM's files: two tokenizers beside the weights, and the published checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, InstructBlipConfig

from anymask.errors import CheckpointError
from anymask.methods.osm.configuration import OSMConfig
from anymask.methods.osm.convert import FROZEN, load_osm, read_osm
from anymask.methods.osm.inference import OSMNamer
from anymask.methods.osm.model import OSMModel
from anymask.methods.osm.templates import Texts
from anymask.methods.osm.windows import starts
from anymask.nn.text_tokens import load_tokenizer

QFORMER = "qformer_tokenizer"  # the folder InstructBLIP keeps it in


def load_texts(source: str | Path) -> Texts:
    """The two tokenizers of a folder or hub id, as InstructBLIP's repositories have them: the
    language model's beside the weights, the Q-Former's in ``qformer_tokenizer``.

    Raises:
        CheckpointError: one is missing, or pads with its end token.
    """
    language = load_tokenizer(source)
    try:
        qformer: Any = AutoTokenizer.from_pretrained(source, subfolder=QFORMER)
    except Exception as error:  # a missing or damaged file raises almost anything
        raise CheckpointError(
            f"{source} has no Q-Former tokenizer: put InstructBLIP's {QFORMER} folder there "
            f"({error})"
        ) from error
    if language.pad_token_id is None or language.eos_token_id is None:
        raise CheckpointError(f"the tokenizer in {source} has no padding or no end token")
    first = (
        language.bos_token_id
        if language("What")["input_ids"][0] in language.all_special_ids
        else None
    )
    return Texts(language, qformer, language.pad_token_id, language.eos_token_id, first)


def save_texts(texts: Texts, folder: Path) -> None:
    """Write both where :func:`load_texts` finds them."""
    texts.language.save_pretrained(folder)
    texts.qformer.save_pretrained(folder / QFORMER)


def load_published(path: Path, device: str = "auto") -> OSMNamer:
    """One of the authors' files, which hold the trained part only, beside the InstructBLIP it was
    trained on.

    Args:
        path: ``osm_final.pt`` or the like, in the folder of ``Salesforce/instructblip-vicuna-7b``.
        device: as for :func:`anymask.loading.load_discoverer`.

    Raises:
        CheckpointError: a file is missing or does not fit.
    """
    from transformers import InstructBlipForConditionalGeneration

    folder = path.parent
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{path} is the trained part of an OSM: put it beside the files of the InstructBLIP it "
            "stands on (Salesforce/instructblip-vicuna-7b)"
        )
    state = read_osm(path)
    try:
        base = InstructBlipForConditionalGeneration.from_pretrained(folder)
    except Exception as error:  # a damaged file raises almost anything
        raise CheckpointError(f"the InstructBLIP in {folder} cannot be loaded: {error}") from error
    model = OSMModel(config_of_osm(base.config, state))
    frozen = {k: v for k, v in base.state_dict().items() if k.startswith(FROZEN)}
    missing, _ = model.load_state_dict(frozen, strict=False)
    if any(name.startswith(FROZEN) for name in missing):
        raise CheckpointError(f"the InstructBLIP in {folder} lacks parts of its own")
    return OSMNamer(load_osm(model, state), load_texts(folder), device)


def config_of_osm(base: InstructBlipConfig, state: Any) -> OSMConfig:
    """The configuration a published file fits: its canvas and stride are told by the number of
    positions, its modes by their names.

    Raises:
        CheckpointError: no canvas and stride have so many.
    """
    count = next(v.shape[1] for k, v in state.items() if k.endswith("window_pos_embed"))
    modes = list(dict.fromkeys(k.rsplit(".", 1)[1] for k in state if "qformer_mode_query." in k))
    vision: Any = base.vision_config
    patch, window = int(vision.patch_size), int(vision.image_size)
    # Windows side by side first: that is how the published ones were trained.
    for stride in range(window, 0, -patch):
        for side in range(window, 16 * window, patch):
            windows = len(starts(side, window, stride)) ** 2
            if windows + (side // patch) ** 2 == count:
                return OSMConfig(base_config=base, canvas=side, stride=stride, modes=modes)
    raise CheckpointError(f"no canvas of whole windows has {count} positions")
