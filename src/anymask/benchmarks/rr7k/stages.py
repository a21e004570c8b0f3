"""Asking what regions show, and whether that is right; every answer goes to the ledger at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from anymask.benchmarks.ledger import Ledger
from anymask.benchmarks.rr7k.candidates import Candidate
from anymask.errors import AnymaskError, ServerError
from anymask.image import Image, read_image
from anymask.ops.marking import marked
from anymask.ops.rle import decode
from anymask.segments import Segments
from anymask.vision_server import VisionServer

NAME, VERIFY, REVIEW = "name", "verify", "review"
NAME_QUESTION = (
    "What is the area outlined by the red contour and covered by the red mask in the image? Reply "
    "with only the category name of it, a short noun phrase, without explanation."
)
VERIFY_QUESTION = (
    "Is the area outlined by the red contour and covered by the red mask in the image {}? Please "
    "answer yes or no."
)
LONGEST = 6  # words: more is a sentence and no name
PATIENCE = 5  # questions in a row without an answer: the server is gone
_REFUSALS = re.compile(
    r"^(sorry|i |i'm|as an|unable|unknown|unclear|not sure|none\b|n/a|nothing|no object|it is )"
)
_ARTICLE = re.compile(r"^(a|an|the) (?=.)")

# picture, its regions -> (row, answer) as they are ready
Namer = Callable[[Image, Segments], Iterator[tuple[int, str]]]
# picture, its named regions -> the probability that every name is right
Verifier = Callable[[Image, Segments], Sequence[float]]
Advance = Callable[[str | None], None]


def name_of(answer: str) -> str:
    """An answer as a name: lower case, without article, underscores and hyphens as spaces; empty if
    it is a refusal or a sentence."""
    text = " ".join(answer.lower().replace("_", " ").replace("-", " ").split()).strip(" .\"'`*")
    if _REFUSALS.match(text) or len(text.split()) > LONGEST or not re.search(r"\w", text):
        return ""
    return _ARTICLE.sub("", text)


def verdict_of(answer: str) -> str:
    """``"yes"`` or ``"no"``, whichever comes first in an answer; else ``"unknown"``."""
    found = re.search(r"\b(yes|no)\b", answer.lower())
    return found.group(1) if found else "unknown"


def verdict_by_people(ledger: Ledger, region: str) -> str:
    """``"keep"``, ``"delete"``, ``"rename"``, or empty when nobody looked or it was undone."""
    found = str((ledger.get(region, REVIEW) or {}).get("verdict", ""))
    return "" if found == "undo" else found


# -------------------------------------------------------------------------------- what to ask


def unnamed(candidates: Sequence[Candidate], ledger: Ledger) -> list[Candidate]:
    """Regions that nobody was asked about yet."""
    return [one for one in candidates if ledger.get(one.key, NAME) is None]


def names(candidates: Sequence[Candidate], ledger: Ledger) -> dict[str, str]:
    """region -> name, of all that have one; a reviewer's word counts more than a model's."""
    found = {}
    for one in candidates:
        review = ledger.get(one.key, REVIEW) or {}
        row = ledger.get(one.key, NAME) or {}
        name = review.get("name") if review.get("verdict") == "rename" else row.get("name")
        if name:
            found[one.key] = str(name)
    return found


def heads(named: Mapping[str, str], head_min: int) -> set[str]:
    """Names with at least so many regions."""
    return {name for name, count in Counter(named.values()).items() if count >= head_min}


def unverified(
    candidates: Sequence[Candidate], ledger: Ledger, head_min: int
) -> list[tuple[Candidate, str]]:
    """Regions of frequent names that nobody was asked about yet, and their names.

    Rare names are left to people: the paper found large models unreliable there.
    """
    named = names(candidates, ledger)
    frequent = heads(named, head_min)
    return [
        (one, named[one.key])
        for one in candidates
        if named.get(one.key) in frequent
        and (ledger.get(one.key, VERIFY) or {}).get("name") != named[one.key]
        and not verdict_by_people(ledger, one.key)
    ]


# ----------------------------------------------------------------------------- asking a model


def name_locally(
    candidates: Sequence[Candidate],
    ledger: Ledger,
    namer: Namer,
    model: str,
    clean: Callable[[str], str],
    advance: Advance,
) -> list[tuple[Path, str]]:
    """Let a model name regions, a picture at a time.

    Args:
        candidates: regions nobody was asked about; those of a picture follow each other.
        ledger: where answers go.
        namer: yields answers as they are ready.
        model: for the record.
        clean: takes the name out of an answer.
        advance: called once a region.

    Returns:
        (picture, reason) of those that could not be read or named.
    """
    failed = []
    for file, group in groupby(candidates, key=lambda one: one.file):
        mine = list(group)
        try:
            image = _read(file)
            segments = Segments(image.size, [one.rle for one in mine])
            for row, answer in namer(image, segments):
                name = name_of(clean(answer))
                ledger.add(mine[row].key, NAME, {"answer": answer, "name": name, "model": model})
                advance(None)
        except AnymaskError as error:
            failed.append((file, str(error)))
            advance(f"{file}: {error}")
    return failed


def verify_locally(
    pairs: Sequence[tuple[Candidate, str]],
    ledger: Ledger,
    verifier: Verifier,
    model: str,
    advance: Advance,
) -> list[tuple[Path, str]]:
    """Let a model say how likely every name is right; ``"no"`` below one half."""
    failed = []
    for file, group in groupby(pairs, key=lambda pair: pair[0].file):
        mine = list(group)
        try:
            image = _read(file)
            named = Segments(
                image.size, [one.rle for one, _ in mine], labels=[name for _, name in mine]
            )
            chances = verifier(image, named)
        except AnymaskError as error:
            failed.append((file, str(error)))
            advance(f"{file}: {error}")
            continue
        for (one, name), chance in zip(mine, chances, strict=True):
            verdict = "yes" if chance >= 0.5 else "no"
            found = {"verdict": verdict, "name": name, "probability": float(chance)}
            ledger.add(one.key, VERIFY, {**found, "model": model})
            advance(None)
    return failed


# ---------------------------------------------------------------------------- asking a server


@dataclass(frozen=True)
class Question:
    """One question about one region.

    Attributes:
        region: about what.
        text: in words.
        found: what the ledger keeps of an answer.
    """

    region: Candidate
    text: str
    found: Callable[[str], dict[str, Any]]


def name_questions(candidates: Sequence[Candidate], clean: Callable[[str], str]) -> list[Question]:
    """What is this?"""

    def found(answer: str) -> dict[str, Any]:
        return {"answer": answer, "name": name_of(clean(answer))}

    return [Question(one, NAME_QUESTION, found) for one in candidates]


def verify_questions(pairs: Sequence[tuple[Candidate, str]]) -> list[Question]:
    """Is this a ...?"""

    def question(one: Candidate, name: str) -> Question:
        def found(answer: str) -> dict[str, Any]:
            return {"answer": answer, "verdict": verdict_of(answer), "name": name}

        return Question(one, VERIFY_QUESTION.replace("{}", name), found)

    return [question(one, name) for one, name in pairs]


def ask_server(
    questions: Sequence[Question],
    stage: str,
    ledger: Ledger,
    server: VisionServer,
    threads: int,
    advance: Advance,
) -> list[tuple[Path, str]]:
    """Ask all questions, several at a time; a region is drawn on its picture in red.

    Args:
        questions: none of which the ledger answers.
        stage: of the ledger.
        ledger: where answers go.
        server: whom to ask.
        threads: questions on their way at once.
        advance: called once a question.

    Returns:
        (picture, reason) of those without an answer.

    Raises:
        ServerError: several questions in a row had no answer: the server is gone. What was
            answered is kept; the same call goes on.
    """
    failed: list[tuple[Path, str]] = []
    in_a_row, done, gone = 0, 0, False

    def ask(question: Question) -> None:
        one = question.region
        image = marked(_read(one.file), decode(one.rle))
        answer = server.ask(image, question.text, stop=lambda: gone)
        ledger.add(one.key, stage, {**question.found(answer), "model": server.identity})

    waiting = iter(questions)
    under_way: dict[Future[None], Question] = {}
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                # Never more than a few ahead, so that an interruption loses little.
                while len(under_way) < threads and (question := next(waiting, None)):
                    under_way[pool.submit(ask, question)] = question
                if not under_way:
                    return failed
                finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in finished:
                    question, error = under_way.pop(future), future.exception()
                    done += 1
                    if error is None:
                        in_a_row = 0
                        advance(None)
                        continue
                    if not isinstance(error, AnymaskError):
                        raise error
                    failed.append((question.region.file, f"{question.region.key}: {error}"))
                    advance(f"{question.region.key}: {error}")
                    lost = isinstance(error, ServerError) and not error.final
                    in_a_row = in_a_row + 1 if lost else 0
                if in_a_row >= PATIENCE:
                    raise ServerError(
                        f"{in_a_row} questions in a row had no answer, the last because of: "
                        f"{failed[-1][1]}. {done - len(failed)} of {len(questions)} are answered "
                        "and kept; see to the server, and the same command goes on"
                    )
        finally:
            gone = True


@lru_cache(maxsize=8)
def _read(file: Path) -> Image:
    return read_image(file)
