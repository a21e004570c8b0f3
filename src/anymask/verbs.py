"""What a user calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from anymask.checkpoints import DEFAULT, DEFAULT_FINDER, DEFAULT_MATCHER, DEFAULT_NAMER
from anymask.errors import CheckpointError, InputError
from anymask.image import Image, read_image
from anymask.loading import (
    load_discoverer,
    load_finder,
    load_labeller,
    load_matcher,
    load_namer,
    recommended_min_score,
)
from anymask.methods.named_map import TASKS, Task, as_map
from anymask.ops.tiles import discover_in_tiles
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

BY = ("meaning", "word", "likelihood")  # how a vocabulary's word is found
AUTO_TILE = 1024  # side of a tile in pixels, when the picture is larger than twice that


@overload
def discover(
    image: list[Any] | tuple[Any, ...],
    *,
    model: str | Path | Callable[..., Segments] = ...,
    min_score: float | None = ...,
    max_segments: int = ...,
    tile: int | str | None = ...,
    labels: bool = ...,
    device: str = ...,
) -> list[Segments]: ...
@overload
def discover(
    image: Any,
    *,
    model: str | Path | Callable[..., Segments] = ...,
    min_score: float | None = ...,
    max_segments: int = ...,
    tile: int | str | None = ...,
    labels: bool = ...,
    device: str = ...,
) -> Segments: ...
def discover(
    image: Any,
    *,
    model: str | Path | Callable[..., Segments] = DEFAULT,
    min_score: float | None = None,
    max_segments: int = 100,
    tile: int | str | None = None,
    labels: bool = False,
    device: str = "auto",
) -> Segments | list[Segments]:
    """Find every object, whatever it is.

    Args:
        image: anything :func:`anymask.read_image` takes (path, PIL, numpy, torch), or a list.
        model: a name (``anymask models`` lists them), a folder, a checkpoint file, a Hugging Face
            id, or any callable ``picture -> Segments``.
        min_score: proposals below are dropped; in 0..1. None = the model's own recommendation; 0
            keeps all.
        max_segments: at most so many a picture.
        tile: side in pixels of overlapping tiles in which a large picture is searched besides the
            whole; ``"auto"`` tiles pictures larger than 2048 pixels; None never.
        labels: ask a class-aware model for its classes too: the best pairs of a mask and a class.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.

    Returns:
        Segments, best first, without labels unless they were asked for; one per picture when a list
        was given.

    Raises:
        ImageError: a picture cannot be read.
        CheckpointError: the model cannot be loaded.
        InputError: an option is out of its range.
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score}; it lies between 0 and 1")
    if max_segments < 1:
        raise InputError(f"max_segments is {max_segments}; it is at least 1")
    find = model if callable(model) else load_discoverer(model, device)
    lowest = recommended_min_score(find) if min_score is None else min_score
    if labels:
        if not hasattr(find, "labelled"):
            raise CheckpointError(f"{model} gives no labels: give a class-aware model")
        if tile is not None:
            raise InputError("labels are given for whole pictures: leave tile out")
        find = find.labelled
    if isinstance(image, (list, tuple)):
        return [_discover_one(find, read_image(one), lowest, max_segments, tile) for one in image]
    return _discover_one(find, read_image(image), lowest, max_segments, tile)


def find(
    image: Any,
    phrases: str | Sequence[str] | None = None,
    *,
    points: Any = None,
    point_labels: Any = None,
    boxes: Any = None,
    masks: Any = None,
    examples: Sequence[tuple[Any, Any]] | None = None,
    bank: Any = None,
    task: str = "instance",
    model: str | Path | Any = DEFAULT_FINDER,
    min_score: float | None = None,
    max_segments: int = 100,
    two_stage: bool = False,
    multimask: bool = False,
    device: str = "auto",
) -> Segments:
    """Find what phrases describe (OpenWorldSAM), clicks and boxes point at (SAM 2), or examples
    show (SegPrompt). One of the three is asked at a time.

    Args:
        image: anything :func:`anymask.read_image` takes.
        phrases: words or sentences; all that each describes is found, and labelled with it.
        points: (Q, n, 2) x, y in pixels, n clicks for each of Q things; (n, 2) for one thing.
        point_labels: (Q, n) or (n,): 1 inside (the default), 0 outside, -1 no point.
        boxes: (Q, 4) x1, y1, x2, y2 in pixels, or (4,); one thing each.
        masks: Q earlier masks to refine (:class:`Segments` or (Q, H, W) bool), alone or with
            points or boxes.
        examples: pairs of a picture and its masks: :class:`Segments`, whose labels are then the
            names, or (N, H, W) or (H, W) bool.
        bank: a :class:`~anymask.methods.segprompt.few_shot.PromptBank`, or the path of one, instead
            of or besides examples.
        task: of phrases: ``"instance"``, ``"referring"`` (the best of each phrase), ``"semantic"``
            or ``"panoptic"``.
        model: a name (``anymask models``), folder, hub id or file: an OpenWorldSAM for phrases and
            clicks, a SAM 2 for clicks, a SegPrompt trained with prompt branches for examples, or
            with text prompts for words; or one that is loaded already. The bundled ones answer
            phrases and clicks on drawn scenes, and examples of photographs (``segprompt-pocket``,
            the default for examples).
        min_score: finds below are dropped; in 0..1. None = the model's own for phrases and
            examples, 0 for clicks.
        max_segments: at most so many of every phrase or name.
        two_stage: of phrases: refine every mask by feeding it back.
        multimask: of clicks: three masks each (whole, part, smaller part) instead of one.
        device: as for :func:`discover`.

    Returns:
        Segments: labelled and best first (referring ones in the order of the phrases); for clicks
        unlabelled and in the order of the prompts.

    Raises:
        ImageError: the picture cannot be read.
        InputError: nothing or several things were asked, or an option is out of its range.
        CheckpointError: the model cannot be loaded, or does not understand the question.
        DataError: the bank cannot be read.
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score}; it lies between 0 and 1")
    shown = bool(examples) or bank is not None
    pointed = any(x is not None for x in (points, boxes, masks))
    if shown + pointed + (phrases is not None) != 1:
        raise InputError(
            "nothing to look for: give phrases, or points, boxes or masks, or examples or a bank"
            if not (shown or pointed or phrases is not None)
            else "phrases, clicks and examples are asked one at a time"
        )
    if max_segments < 1:
        raise InputError(f"max_segments is {max_segments}; it is at least 1")
    for pair in examples or ():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InputError("every example is a pair of a picture and its masks")
    if boxes is not None and not len(boxes):
        raise InputError("there is no box: give at least one, or leave boxes out")
    if shown and model == DEFAULT_FINDER:
        model = DEFAULT  # the bundled model that takes examples
    finder = load_finder(model, device) if isinstance(model, (str, Path)) else model
    if shown:
        if not hasattr(finder, "prompts") or not hasattr(finder, "find"):
            raise CheckpointError(
                f"{model} takes no examples: give the folder of a model trained with prompt "
                "branches (anymask train lvis-ow-stage2)"
            )
        asked = _prompts(finder, examples, bank)
        return finder.find(  # type: ignore[no-any-return]
            read_image(image), asked, min_score=min_score, max_segments=max_segments
        )
    picture = read_image(image)
    if phrases is not None:
        from anymask.methods.openworldsam import PhraseFinder
        from anymask.methods.segprompt.few_shot import SegPromptFinder

        if isinstance(finder, SegPromptFinder) and finder.branches.text is not None:
            if task != "instance" or two_stage:
                raise InputError("a SegPrompt finds instances of words: leave task and two_stage")
            words = [phrases] if isinstance(phrases, str) else phrases
            return finder.find(
                picture,
                finder.of_words(words),
                min_score=min_score,
                max_segments=max_segments,
            )
        if not isinstance(finder, PhraseFinder):
            raise CheckpointError(
                f"{model} does not understand phrases: give an OpenWorldSAM (docs/find.md)"
            )
        return finder(
            picture,
            phrases if not isinstance(phrases, str) else [phrases],
            task,  # type: ignore[arg-type]
            min_score=min_score,
            max_segments=max_segments,
            two_stage=two_stage,
        )
    from anymask.methods.sam.prompting import SamPrompter
    from anymask.methods.sam2.prompting import Sam2Prompter

    prompter = getattr(finder, "prompts", finder)
    if not isinstance(prompter, (Sam2Prompter, SamPrompter)):
        raise CheckpointError(
            f"{model} does not understand clicks: give a SAM, a SAM 2 or an OpenWorldSAM"
        )
    found = prompter(picture, points, point_labels, boxes, masks, multimask=multimask)
    return found if min_score is None else found[found.scores >= min_score]


def _prompts(finder: Any, examples: Sequence[tuple[Any, Any]] | None, bank: Any) -> Any:
    """Examples and bank as one bank."""
    from anymask.methods.segprompt.prompt_bank import PromptBank

    asked = PromptBank.load(bank) if isinstance(bank, (str, Path)) else bank
    if examples:
        shown = [(read_image(picture), _as_segments(masks)) for picture, masks in examples]
        made = finder.prompts(shown)
        asked = made if asked is None else asked.merge(made)
    return asked


def name(
    image: Any,
    segments: Any,
    *,
    model: str | Path | Any = DEFAULT_NAMER,
    vocabulary: Any = None,
    verify: bool = False,
    longest: int = 24,
    temperature: float = 0.0,
    seed: int = 0,
    mode: str | None = None,
    by: str = "meaning",
    ensemble: str | Path | Any = None,
    trained: Any = None,
    device: str = "auto",
) -> Segments:
    """Call every mask by a free name (WOW-Seg or OSM), all masks at once.

    A mask's name never depends on the other masks.

    Args:
        image: anything :func:`anymask.read_image` takes.
        segments: masks from anywhere: :class:`Segments`, or (N, H, W) or (H, W) bool.
        model: folder or hub id of an InternVL, such as WOW-Seg's, or of an OSM; or a
            :class:`~anymask.methods.wowseg.inference.WOWSegNamer` or
            :class:`~anymask.methods.osm.inference.OSMNamer`. The bundled ones know drawn scenes
            only.
        vocabulary: names are replaced by the words of this list that mean the same most nearly (by
            Sentence-BERT); a list, file, built-in name or :class:`Vocabulary`.
        verify: ask the model again whether each name is right, with the mask drawn in red; the
            label scores are then its answers' probabilities. Reads the picture once more a mask.
        longest: tokens of a name.
        temperature: 0 = the likeliest word each time; above, words are drawn.
        seed: of the drawing.
        mode: of an OSM: ``"any"`` (default) for any words, or a data set's (``"coco"``, ...).
        by: how names come from a vocabulary: ``"meaning"`` (see there); ``"word"``: a name must be
            one of its words, or their plural or singular, and other names are dropped; or
            ``"likelihood"``: an OSM says how likely each of its words is, and the label scores are
            their probabilities.
        ensemble: with likelihood, a model of :func:`match` whose CLIP has a say as well.
        trained: for the ensemble, a vocabulary of the words that the OSM was trained on; CLIP's
            share is 0.4 for them and 0.8 for others.
        device: as for :func:`discover`.

    Returns:
        The same segments with labels; a label's score is the probability of the whole name, or
        with a vocabulary the cosine of name and word. A mask that nothing can be said of keeps the
        label it had.

    Raises:
        ImageError: the picture cannot be read.
        SegmentsError: the masks do not fit the picture.
        CheckpointError: the model cannot be loaded or names nothing.
        MissingExtraError: a vocabulary is given and there is no sentence encoder.
        InputError: something is asked that this kind of model does not do.
    """
    from anymask.methods.osm.inference import OSMNamer
    from anymask.methods.wowseg.inference import WOWSegNamer

    if by not in BY:
        raise InputError(f"by is {by!r}: use one of {', '.join(BY)}")
    if ensemble is not None and by != "likelihood":
        raise InputError("an ensemble weighs likelihoods: use by='likelihood'")
    namer = model if isinstance(model, (WOWSegNamer, OSMNamer)) else load_namer(model, device)
    picture, given = read_image(image), _as_segments(segments)
    if isinstance(namer, OSMNamer):
        if verify or temperature:
            raise InputError("an OSM neither verifies nor draws names: use a WOW-Seg for that")
        if by == "likelihood":
            if vocabulary is None:
                raise InputError("likelihood needs a vocabulary to choose from")
            second = None if ensemble is None else _opinion(ensemble, device)
            return namer.choose(
                picture,
                given,
                Vocabulary.of(vocabulary),
                mode=mode,
                second=second,
                trained=None if trained is None else Vocabulary.of(trained),
            )
        found = namer(picture, given, longest=longest, mode=mode)
    else:
        if mode is not None or by == "likelihood":
            raise InputError("mode and likelihood belong to OSM: this model is a WOW-Seg")
        found = namer(picture, given, longest=longest, temperature=temperature, seed=seed)
    if vocabulary is not None:
        found = _mapped(found, vocabulary, by)
    if verify and isinstance(namer, WOWSegNamer):
        from anymask.methods.wowseg.verification import verify as ask_again

        sure = ask_again(namer, picture, found)
        found = found.with_labels(list(found.labels), sure, list(found.label_sources))
    return found


def segment(
    image: Any,
    *,
    namer: str | Path | Any = DEFAULT_NAMER,
    discoverer: str | Path | Callable[..., Segments] = DEFAULT,
    vocabulary: Any = None,
    verify: bool = False,
    by: str = "meaning",
    ensemble: str | Path | Any = None,
    trained: Any = None,
    mode: str | None = None,
    task: Task = "objects",
    keep_unnamed: bool = False,
    min_score: float | None = None,
    max_segments: int = 100,
    tile: int | str | None = None,
    longest: int = 24,
    device: str = "auto",
) -> Segments:
    """Find every object and name it.

    Args:
        image: anything :func:`anymask.read_image` takes.
        namer: a model of :func:`name` (WOW-Seg, OSM), of :func:`match` (OVSNet, with a vocabulary),
            or any callable ``(picture, Segments) -> Segments``.
        discoverer: a model of :func:`discover`, or any callable ``picture -> Segments``.
        vocabulary: names come from this list; see :func:`name`. An OVSNet needs one.
        verify: as for :func:`name`.
        by, ensemble, trained, mode, longest: as for :func:`name`.
        task: ``"objects"``: masks that may overlap; ``"panoptic"`` and ``"semantic"``: every pixel
            has at most one name, see :func:`~anymask.methods.named_map.as_map`.
        keep_unnamed: also return objects that got no name.
        min_score, max_segments, tile: as for :func:`discover`.
        device: as for :func:`discover`.

    Returns:
        Segments with labels, their probabilities, and the source of each word.

    Raises:
        ImageError: the picture cannot be read.
        CheckpointError: a model cannot be loaded or does something else.
        InputError: something is asked that this kind of namer does not do.
        MissingExtraError: an optional package is needed.
    """
    from anymask.methods.osm.inference import OSMNamer
    from anymask.methods.ovsnet.inference import OVSNetMatcher
    from anymask.methods.wowseg.inference import WOWSegNamer

    labelled = load_labeller(namer, device) if isinstance(namer, (str, Path)) else namer
    check_namer(labelled, vocabulary, verify=verify, mode=mode, by=by, task=task)
    picture = read_image(image)
    found = discover(
        picture,
        model=discoverer,
        min_score=min_score,
        max_segments=max_segments,
        tile=tile,
        device=device,
    )
    if isinstance(labelled, OVSNetMatcher):
        named = match(picture, vocabulary, segments=found, model=labelled)
    elif isinstance(labelled, (WOWSegNamer, OSMNamer)):
        named = name(
            picture,
            found,
            model=labelled,
            vocabulary=vocabulary,
            verify=verify,
            longest=longest,
            mode=mode,
            by=by,
            ensemble=ensemble,
            trained=trained,
        )
    else:
        named = labelled(picture, found)
        if not isinstance(named, Segments):
            raise InputError(f"the namer gave {type(named).__name__} instead of Segments")
        if vocabulary is not None:
            named = _mapped(named, vocabulary, by)
    if task != "objects":
        return as_map(named, task, None if vocabulary is None else Vocabulary.of(vocabulary))
    if keep_unnamed:
        return named
    return named[np.array([label is not None for label in named.labels], bool)]


def _mapped(found: Segments, vocabulary: Any, by: str) -> Segments:
    """Free names as words of a vocabulary."""
    from anymask.methods.wowseg.vocabulary_mapping import to_own_words, to_vocabulary

    words = Vocabulary.of(vocabulary)
    return to_own_words(found, words) if by == "word" else to_vocabulary(found, words)


def _opinion(model: str | Path | Any, device: str) -> Any:
    """What a matcher's CLIP says of given masks."""
    matcher = load_matcher(model, device) if isinstance(model, (str, Path)) else model
    return matcher.shares


def check_namer(
    namer: Any,
    vocabulary: Any,
    *,
    verify: bool = False,
    mode: str | None = None,
    by: str = "meaning",
    task: str = "objects",
) -> None:
    """Whether a namer of :func:`name` or :func:`segment` can do what is asked, before any picture
    is looked at; arguments as of :func:`segment`.

    Raises:
        InputError: it cannot.
        VocabularyError: the vocabulary cannot be read.
    """
    from anymask.methods.osm.inference import OSMNamer
    from anymask.methods.ovsnet.inference import OVSNetMatcher
    from anymask.methods.wowseg.inference import WOWSegNamer

    for said, value, allowed in (("task", task, TASKS), ("by", by, BY)):
        if value not in allowed:
            raise InputError(f"{said} is {value!r}: use one of {', '.join(allowed)}")
    if isinstance(namer, OVSNetMatcher):
        if vocabulary is None:
            raise InputError("this namer chooses from a vocabulary: give one")
        if verify or mode is not None:
            raise InputError("verify and mode belong to namers of free words")
    words = None if vocabulary is None else Vocabulary.of(vocabulary)
    if words is not None and not len(words):
        raise InputError("the vocabulary has no words")
    if by != "meaning" and words is None:
        raise InputError(f"{by} needs a vocabulary to choose from")
    if by == "likelihood" and not isinstance(namer, OSMNamer):
        raise InputError("likelihood belongs to OSM: this namer is another one")
    if verify and not isinstance(namer, WOWSegNamer):
        raise InputError("only a WOW-Seg verifies its names")
    if mode is not None:
        modes = namer.model.config.modes if isinstance(namer, OSMNamer) else []
        if mode not in modes:
            known = f"this one has {', '.join(modes)}" if modes else "this namer has none"
            raise InputError(f"no mode {mode!r}: {known}")


def match(
    image: Any,
    vocabulary: Any,
    *,
    task: str = "semantic",
    segments: Segments | None = None,
    model: str | Path | Any = DEFAULT_MATCHER,
    min_score: float = 0.0,
    max_segments: int = 100,
    void_threshold: float | None = None,
    tile: int | str | None = None,
    device: str = "auto",
) -> Segments:
    """Segment a picture with any list of words (OVSNet).

    Asking again about the same picture with other words does not encode it again.

    Args:
        image: anything :func:`anymask.read_image` takes.
        vocabulary: a list of words, a file, the name of a built-in list (``"ade20k-847"``), or a
            :class:`Vocabulary`.
        task: ``"semantic"``, ``"panoptic"`` or ``"instance"``.
        segments: masks from anywhere, to be labelled instead of finding any.
        model: a name (``anymask models``), a folder or hub id, an FC-CLIP or MAFT+ checkpoint file
            with its tokenizer beside it, or an
            :class:`~anymask.methods.ovsnet.inference.OVSNetMatcher`.
        min_score: segments below are dropped; in 0..1.
        max_segments: of instances: so many pairs of a mask and a word are looked at.
        void_threshold: semantic pixels whose best score is below it belong to no segment.
        tile: side in pixels of overlapping tiles for large pictures; ``"auto"`` tiles pictures
            larger than 2048 pixels; None never. Not with ``"panoptic"``.
        device: as for :func:`discover`.

    Returns:
        Labelled segments.

    Raises:
        ImageError: the picture cannot be read.
        VocabularyError: the words cannot be read.
        InputError: an option is out of its range.
        CheckpointError: the model cannot be loaded or matches no words.
    """
    from anymask.methods.ovsnet.inference import OVSNetMatcher
    from anymask.methods.ovsnet.tiling import match_in_tiles
    from anymask.ops.mask_classification import TASKS

    if task not in TASKS:
        raise InputError(f"task is {task!r}: use one of {', '.join(TASKS)}")
    if not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score}; it lies between 0 and 1")
    words = Vocabulary.of(vocabulary)
    picture = read_image(image)
    matcher = model if isinstance(model, OVSNetMatcher) else load_matcher(model, device)
    if segments is not None:
        return matcher.label(picture, segments, words)
    side = _tile_side(tile, picture)
    if side is not None:
        if task == "panoptic":
            raise InputError("panoptic results are not made in tiles: use semantic or instance")
        return match_in_tiles(
            matcher,
            picture,
            words,
            task,
            side,
            min_score=min_score,
            max_segments=max_segments,
            void_threshold=void_threshold,
        )
    return matcher(
        picture,
        words,
        task,  # type: ignore[arg-type]
        min_score=min_score,
        max_segments=max_segments,
        void_threshold=void_threshold,
    )


def _as_segments(masks: Any) -> Segments:
    if isinstance(masks, Segments):
        return masks
    array = np.asarray(masks)
    return Segments.from_masks(array[None] if array.ndim == 2 else array)


def _discover_one(
    find: Callable[..., Segments],
    image: Image,
    min_score: float,
    max_segments: int,
    tile: int | str | None,
) -> Segments:
    def whole(picture: Image) -> Segments:
        if _takes_options(find):
            return find(picture, min_score=min_score, max_segments=max_segments)
        found = find(picture)
        return found[found.scores >= min_score].sorted_by_score()[:max_segments]

    side = _tile_side(tile, image)
    if side is None:
        return whole(image)
    return discover_in_tiles(whole, image, side)[:max_segments]


def _tile_side(tile: int | str | None, image: Image) -> int | None:
    """Side of the tiles in pixels, or None when the picture is done in one piece."""
    if isinstance(tile, str) and tile != "auto":
        raise InputError(f"tile is {tile!r}: give a number of pixels, 'auto' or None")
    if isinstance(tile, int) and tile < 64:
        raise InputError(f"tile is {tile} pixels; it is at least 64")
    if tile == "auto":
        return AUTO_TILE if max(image.size) > 2 * AUTO_TILE else None
    return None if tile is None or max(image.size) <= int(tile) else int(tile)


def _takes_options(find: Callable[..., Segments]) -> bool:
    import inspect

    try:
        names = inspect.signature(find).parameters
    except (TypeError, ValueError):
        return False
    return {"min_score", "max_segments"} <= set(names)
