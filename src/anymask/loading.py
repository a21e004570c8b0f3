"""A name, folder, file or hub id -> a model that is ready to be asked."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymask.checkpoints import TABLE, bundled_folder, find, names_for
from anymask.errors import CheckpointError

if TYPE_CHECKING:
    from anymask.image import Image
    from anymask.methods.openworldsam import PhraseFinder
    from anymask.methods.osm.inference import OSMNamer
    from anymask.methods.ovsnet.inference import OVSNetMatcher
    from anymask.methods.sam.prompting import SamPrompter
    from anymask.methods.sam2.prompting import Sam2Prompter
    from anymask.methods.segprompt.few_shot import SegPromptFinder
    from anymask.methods.wowseg.inference import WOWSegNamer
    from anymask.nn.sam2 import Sam2
    from anymask.segments import Segments

    Finder = PhraseFinder | Sam2Prompter | SamPrompter | SegPromptFinder
    Discoverer = Callable[..., Segments]
    DiscoverOne = Callable[[Image], Segments]

# The published SAM 2 folders are saved as video models; their picture parts are all there.
SAM2_TYPES = ("sam2", "sam2_video")
SAM_TYPES = ("sam", "sam_hq")


@lru_cache(maxsize=2)
def load_discoverer(name: str | Path, device: str = "auto") -> Discoverer:
    """A discoverer: call it with a picture, ``min_score`` and ``max_segments``.

    The last two are kept, so that asking twice loads once.

    Args:
        name: a name of the table; a folder with one of our models or a Hugging Face Mask2Former;
            an official checkpoint file (``.pth``, ``.pkl``); or a hub id ``owner/model``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.

    Raises:
        CheckpointError: nothing of that name is there, or it cannot be used.
        MissingExtraError: an optional package is needed.
    """
    row = find(str(name))
    if row is not None and row.source == "none":
        from anymask.methods.felzenszwalb import Felzenszwalb

        return Felzenszwalb()
    source = _source(name, ("discover",))
    path = Path(source)

    from anymask.methods.sam2.automatic import AutomaticMasks
    from anymask.methods.segprompt import SegPromptConfig, SegPromptDiscoverer, SegPromptModel
    from anymask.methods.segprompt.convert import load_published
    from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel

    kind = _kind_of(source)
    if kind in SAM2_TYPES or (row is not None and row.name.startswith("sam2")):
        return AutomaticMasks(_sam2(source, device))
    if kind in SAM_TYPES:
        from anymask.methods.sam.automatic import SamClicker

        return AutomaticMasks(SamClicker(_sam(source, str(kind), device)))
    if path.suffix == ".pt":
        from anymask.nn.device import pick_device
        from anymask.nn.sam2_keys import load_sam2_file

        return AutomaticMasks(load_sam2_file(path).to(pick_device(device)))
    if kind == SegPromptConfig.model_type:
        model: Any = _saved(SegPromptModel, path)
    elif kind == PromptLearningConfig.model_type:
        model = _saved(PromptLearningModel, path).segmenter
    else:
        model = load_published(source)
    return SegPromptDiscoverer(model, device=device)


@lru_cache(maxsize=2)
def load_finder(name: str | Path, device: str = "auto") -> Finder:
    """A finder: of phrases, of clicks and boxes, or of what examples show.

    Args:
        name: a name of the table; a folder or hub id of an OpenWorldSAM, a SAM 2, a SAM (or
            SAM-HQ), or a model trained with prompt branches; one of Meta's SAM 2 files (``.pt``);
            or a released OpenWorldSAM checkpoint beside which lies ``beit3.spm``.
        device: as for :func:`load_discoverer`.

    Raises:
        CheckpointError: nothing of that name is there, or it finds nothing.
    """
    from anymask.methods.openworldsam import OpenWorldSAMConfig, OpenWorldSAMModel, PhraseFinder
    from anymask.methods.openworldsam.tokens import load_words
    from anymask.methods.sam2.prompting import Sam2Prompter
    from anymask.methods.segprompt import SegPromptConfig
    from anymask.methods.segprompt.few_shot import BESIDE, SegPromptFinder
    from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel

    source = _source(name, ("find", "discover"))
    path = Path(source)
    if path.is_file():
        return _finder_from_file(path, device)
    kind = _kind_of(source)
    if kind == OpenWorldSAMConfig.model_type:
        model = _saved(OpenWorldSAMModel, source)
        return PhraseFinder(model, load_words(source), device)
    if kind in SAM2_TYPES:
        return Sam2Prompter(_sam2(source, device))
    if kind in SAM_TYPES:
        return _sam(source, str(kind), device)
    if kind == PromptLearningConfig.model_type:
        return SegPromptFinder(_saved(PromptLearningModel, source), device)
    if kind == SegPromptConfig.model_type and (path / BESIDE).is_file():
        return SegPromptFinder.beside(path, device)
    raise CheckpointError(
        f"{name} takes no examples, phrases or clicks: give the folder of an OpenWorldSAM "
        "(phrases), a SAM 2 (clicks and boxes) or a model trained with prompt branches (examples)"
    )


def _finder_from_file(path: Path, device: str) -> Finder:
    """A released checkpoint: of SAM 2 or OpenWorldSAM."""
    from anymask.methods.openworldsam import PhraseFinder
    from anymask.methods.openworldsam.convert import openworldsam_of
    from anymask.methods.openworldsam.tokens import load_words
    from anymask.methods.sam2.prompting import Sam2Prompter
    from anymask.nn.device import pick_device
    from anymask.nn.published import read_checkpoint
    from anymask.nn.sam2_keys import is_sam2, sam2_of

    state = read_checkpoint(path)
    if is_sam2(state):
        return Sam2Prompter(sam2_of(state).to(pick_device(device)))
    return PhraseFinder(openworldsam_of(state), load_words(path.parent), device)


def _sam(source: str | Path, kind: str, device: str) -> SamPrompter:
    from anymask.methods.sam.prompting import load_sam

    try:
        return load_sam(source, kind, device)
    except Exception as error:  # a damaged file raises almost anything
        raise CheckpointError(f"the SAM in {source} cannot be loaded: {error}") from error


def _sam2(source: str | Path, device: str) -> Sam2:
    """A saved SAM 2."""
    from anymask.nn.device import pick_device
    from anymask.nn.sam2 import load_sam2

    try:
        return load_sam2(source).to(pick_device(device))
    except Exception as error:  # a damaged file raises almost anything
        raise CheckpointError(f"the SAM 2 in {source} cannot be loaded: {error}") from error


@lru_cache(maxsize=2)
def load_matcher(name: str | Path, device: str = "auto") -> OVSNetMatcher:
    """A matcher: it takes a picture and words.

    Args:
        name: a name of the table; a folder or hub id of an OVSNet; or an FC-CLIP or MAFT+
            checkpoint file, beside which lie the tokenizer's files (``tokenizer.json`` or
            ``vocab.json`` and ``merges.txt``) and, if the file has no CLIP in it, open_clip's
            ``open_clip_pytorch_model.bin`` or ``open_clip_model.safetensors``.
        device: as for :func:`load_discoverer`.

    Raises:
        CheckpointError: nothing of that name is there, or it takes no words.
    """
    from anymask.methods.ovsnet.configuration import OVSNetConfig
    from anymask.methods.ovsnet.inference import OVSNetMatcher
    from anymask.methods.ovsnet.text import cache_folder

    row = find(str(name))
    if row is not None and row.verb != "match":
        raise CheckpointError(
            f"{name} is a model for {row.verb}; for match there is {names_for('match')}"
        )
    path = bundled_folder(row.name) if row is not None else Path(name)
    if path.is_file():
        return _matcher_from_file(path, device)
    if not path.exists() and _looks_like_hub_id(str(name)):
        return OVSNetMatcher.from_pretrained(name, device)
    if not path.exists() or _model_type(path) != OVSNetConfig.model_type:
        raise CheckpointError(
            f"{name} takes no words: give the folder of an OVSNet, an FC-CLIP or MAFT+ checkpoint "
            f"file, or one of {names_for('match')}"
        )
    from anymask.methods.ovsnet.model import OVSNetModel
    from anymask.nn.text_tokens import load_tokenizer

    tokenizer = load_tokenizer(path, local_files_only=True)
    return OVSNetMatcher(_saved(OVSNetModel, path), tokenizer, device, cache_folder())


def _source(name: str | Path, verbs: tuple[str, ...]) -> str | Path:
    """Folder, file or hub id behind a name.

    Raises:
        CheckpointError: there is nothing of that name, or it is for another verb.
    """
    row = find(str(name))
    if row is not None and row.verb not in verbs:
        raise CheckpointError(
            f"{name} is a model for {row.verb}; for {verbs[0]} there is {names_for(verbs[0])}"
        )
    if row is not None and row.source == "none":
        raise CheckpointError(f"{name} is no model: it can only discover")
    if row is not None:
        return bundled_folder(row.name) if row.source == "bundled" else row.source[4:]
    if not Path(name).exists() and not _looks_like_hub_id(str(name)):
        close = difflib.get_close_matches(str(name), [r.name for r in TABLE], 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise CheckpointError(
            f"no model {str(name)!r}: {hint}Known names are {names_for(*verbs)}; or give a folder, "
            "a checkpoint file or a hub id (owner/model)"
        )
    return name


def _kind_of(source: str | Path) -> str | None:
    """What the configuration of a folder, or else of a hub id, says."""
    path = Path(source)
    return _model_type(path) if path.exists() else _hub_model_type(source)


def _hub_model_type(source: str | Path) -> str | None:
    """What the configuration of a hub id says."""
    from huggingface_hub import hf_hub_download

    try:
        file = Path(hf_hub_download(str(source), "config.json"))
    except Exception as error:  # offline, missing, private: many kinds
        raise CheckpointError(
            f"{source} cannot be read from the hub ({type(error).__name__}): download it once "
            "where there is a network, or give a folder"
        ) from error
    return _model_type(file.parent)


@lru_cache(maxsize=1)
def load_namer(name: str | Path, device: str = "auto") -> WOWSegNamer | OSMNamer:
    """A namer: it takes a picture and masks and calls each by a name.

    Args:
        name: a folder or hub id of an InternVL in Hugging Face's layout
            (``OpenGVLab/InternVL3-1B-hf``), or a folder with WOW-Seg's or InternVL's published
            ``.safetensors`` files; the tokenizer lies in the same place. Or a folder of an OSM, or
            one of its published files (``osm_final.pt``) beside the files of
            ``Salesforce/instructblip-vicuna-7b``.
        device: as for :func:`load_discoverer`.

    Raises:
        CheckpointError: nothing of that name is there, or it names nothing.
    """
    from anymask.methods.wowseg.convert import load_internvl
    from anymask.methods.wowseg.inference import WOWSegNamer
    from anymask.nn.text_tokens import load_tokenizer

    source = _source(name, ("name",))
    path = Path(source)
    # A run keeps its words once, beside its checkpoints.
    words = path.parent if path.name.startswith("checkpoint-") else source
    if path.is_file():
        from anymask.methods.osm.files import load_published as load_osm

        return load_osm(path, device)
    kind = _kind_of(source)
    if kind == "internvl":
        from transformers import InternVLForConditionalGeneration

        model = _saved(InternVLForConditionalGeneration, source)
    elif kind == "internvl_chat":
        model = load_internvl(path)
    elif kind == "anymask_osm":
        from anymask.methods.osm.files import load_texts
        from anymask.methods.osm.inference import OSMNamer
        from anymask.methods.osm.model import OSMModel

        return OSMNamer(_saved(OSMModel, source), load_texts(words), device)
    else:
        raise CheckpointError(
            f"{name} names nothing: give the folder or hub id of an InternVL (WOW-Seg) or of an OSM"
        )
    # How it was trained to be asked, if that is not the paper's way.
    asked = getattr(model.config, "wowseg", {})
    return WOWSegNamer(model, load_tokenizer(words), device, **asked)


def load_labeller(name: str | Path, device: str = "auto") -> WOWSegNamer | OSMNamer | OVSNetMatcher:
    """Whatever gives masks their words: a namer, or a matcher that chooses from a list.

    Raises:
        CheckpointError: it is neither.
    """
    from anymask.methods.ovsnet.configuration import OVSNetConfig

    row, path = find(str(name)), Path(name)
    kind = _model_type(path) if path.is_dir() else None
    if (row is not None and row.verb == "match") or kind == OVSNetConfig.model_type:
        return load_matcher(name, device)
    return load_namer(name, device)


def _matcher_from_file(path: Path, device: str) -> OVSNetMatcher:
    """A published checkpoint, its tokenizer and perhaps its CLIP beside it."""
    from anymask.methods.ovsnet.convert import load_fcclip
    from anymask.methods.ovsnet.inference import OVSNetMatcher
    from anymask.methods.ovsnet.text import cache_folder
    from anymask.nn.text_tokens import load_tokenizer

    beside = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    clip = next((path.parent / n for n in beside if (path.parent / n).is_file()), None)
    model = load_fcclip(path, clip)
    tokenizer = load_tokenizer(path.parent, local_files_only=True)
    return OVSNetMatcher(model, tokenizer, device, cache_folder())


def _saved(kind: Any, path: str | Path) -> Any:
    """A model from its folder."""
    import torch

    from anymask.nn.quiet import no_bars

    try:
        with no_bars():
            model = kind.from_pretrained(path, dtype=torch.float32)
    except Exception as error:  # a damaged file raises almost anything
        raise CheckpointError(f"the model in {path} cannot be loaded: {error}") from error
    return model


def recommended_min_score(discover: Any) -> float:
    """The lowest score worth showing to people, as the model's configuration says; else 0."""
    model = getattr(discover, "model", None)
    return float(getattr(getattr(model, "config", None), "min_score", 0.0))


def _looks_like_hub_id(name: str) -> bool:
    owner, slash, model = name.partition("/")
    return bool(slash and owner and model) and "/" not in model and not name.startswith((".", "~"))


def _model_type(path: Path) -> str | None:
    file = path / "config.json"
    if not file.is_file():
        if path.is_dir():
            raise CheckpointError(f"{path} has no config.json: it is not a folder of a saved model")
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    return None if found is None else str(found)
