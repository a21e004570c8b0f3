"""The manual stage: a page in the browser, or a table to edit; verdicts go to the ledger.

The page is one file served by the standard library on this machine only.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from anymask.benchmarks.ledger import Ledger
from anymask.benchmarks.rr7k.candidates import Candidate
from anymask.benchmarks.rr7k.stages import (
    REVIEW,
    VERIFY,
    name_of,
    names,
    verdict_by_people,
)
from anymask.data.formats.atomic import atomic_write
from anymask.errors import AnymaskError, DataError, InputError
from anymask.image import read_image
from anymask.ops.marking import marked_part
from anymask.ops.rle import decode

VERDICTS = ("keep", "delete", "rename", "undo")
COLUMNS = ("region", "picture", "name", "verifier", "verdict", "new_name")
SHOWN = 360  # pixels: side of a picture on the page
LARGEST_POST = 1 << 16  # bytes


class Review:
    """What reviewers see and say.

    Args:
        candidates: all regions.
        ledger: where names are and verdicts go.
    """

    def __init__(self, candidates: Sequence[Candidate], ledger: Ledger) -> None:
        self.ledger = ledger
        self.regions = {one.key: one for one in candidates}

    def shown(self) -> dict[str, str]:
        """region -> name, of all that people should look at: those the verifier did not refuse."""
        found = names(list(self.regions.values()), self.ledger)
        return {key: name for key, name in found.items() if self.verifier(key) != "no"}

    def verifier(self, key: str) -> str:
        """``"yes"``, ``"no"``, ``"unknown"`` or empty."""
        return str((self.ledger.get(key, VERIFY) or {}).get("verdict", ""))

    def verdict(self, key: str) -> str:
        """``"keep"``, ``"delete"``, ``"rename"`` or empty."""
        return verdict_by_people(self.ledger, key)

    def say(self, key: str, verdict: str, name: str = "", reviewer: str = "") -> None:
        """Record a verdict.

        Raises:
            InputError: no such region or verdict, or a new name that is none.
        """
        if key not in self.regions:
            raise InputError(f"there is no region {key!r}")
        if verdict not in VERDICTS:
            raise InputError(f"the verdict is {verdict!r}: use {', '.join(VERDICTS)}")
        row = {"verdict": verdict, "reviewer": reviewer}
        if verdict == "rename":
            row["name"] = name_of(name)
            if not row["name"]:
                raise InputError(f"{name!r} is no name: write a short noun phrase")
        self.ledger.add(key, REVIEW, row)

    def classes(self) -> list[dict[str, Any]]:
        """Every name with how many regions it has and how many of them are looked at."""
        shown = self.shown()
        seen = Counter(name for key, name in shown.items() if self.verdict(key))
        counts = Counter(shown.values())
        return [
            {"name": name, "count": count, "seen": seen[name]}
            for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]

    def of_class(self, name: str) -> list[dict[str, str]]:
        """The regions of a name."""
        return [
            {"region": key, "verdict": self.verdict(key), "verifier": self.verifier(key)}
            for key, found in self.shown().items()
            if found == name
        ]

    def picture(self, key: str) -> bytes:
        """A region drawn on its surroundings, as JPEG.

        Raises:
            InputError: no such region.
            ImageError: its picture cannot be read.
        """
        one = self.regions.get(key)
        if one is None:
            raise InputError(f"there is no region {key!r}")
        part = marked_part(read_image(one.file), decode(one.rle), SHOWN)
        stream = io.BytesIO()
        part.save(stream, "JPEG", quality=88, subsampling=0)
        return stream.getvalue()

    # ---------------------------------------------------------------------------------- a table

    def write_table(self, path: Path) -> int:
        """Everything there is to look at as CSV, for a spreadsheet; returns the rows."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        shown = sorted(self.shown().items(), key=lambda item: (item[1], item[0]))
        for key, name in shown:
            row = self.ledger.get(key, REVIEW) or {}
            file = str(self.regions[key].file)
            new = row.get("name", "") if self.verdict(key) == "rename" else ""
            writer.writerow([key, file, name, self.verifier(key), self.verdict(key), new])
        with atomic_write(path) as stream:
            stream.write(text.getvalue().encode())
        return len(shown)

    def read_table(self, path: Path, reviewer: str = "") -> int:
        """Take the verdicts of an edited table; returns how many are new.

        Raises:
            DataError: it is another table, or a row says something unknown; nothing is taken then.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                rows = list(csv.DictReader(stream))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        fresh = []
        for number, row in enumerate(rows, 2):
            key, verdict = row.get("region") or "", (row.get("verdict") or "").strip().lower()
            new = row.get("new_name") or ""
            if key not in self.regions or verdict not in ("", *VERDICTS):
                raise DataError(f"{path}:{number}: no region {key!r} or no verdict {verdict!r}")
            if verdict == "rename" and not name_of(new):
                raise DataError(f"{path}:{number}: {new!r} is no name")
            old = self.ledger.get(key, REVIEW) or {}
            same = verdict == self.verdict(key) and (
                verdict != "rename" or name_of(new) == old.get("name")
            )
            if verdict and not same:
                fresh.append((key, verdict, new))
        for key, verdict, new in fresh:
            self.say(key, verdict, new, reviewer)
        return len(fresh)


# ---------------------------------------------------------------------------------------- a page


def serve(review: Review, port: int = 8765) -> ThreadingHTTPServer:
    """A server of the review page on this machine only; call ``serve_forever`` on it.

    Args:
        review: what to show.
        port: 0 = any that is free.

    Raises:
        OSError: the port is in use.
    """
    page = resources.files("anymask.benchmarks.rr7k").joinpath("review.html").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(address.query).items()}
            if address.path == "/":
                self._send(page, "text/html; charset=utf-8")
            elif address.path == "/classes":
                self._json(review.classes())
            elif address.path == "/class":
                self._json(review.of_class(asked.get("name", "")))
            elif address.path == "/picture":
                self._try(lambda: self._send(review.picture(asked.get("region", "")), "image/jpeg"))
            else:
                self._json({"error": "no such page"}, HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            # Another site's page cannot set this header without being asked first, and it is not.
            length = int(self.headers.get("Content-Length") or 0)
            if self.headers.get("X-Anymask") != "review" or not 0 < length <= LARGEST_POST:
                self._json({"error": "not from the review page"}, HTTPStatus.FORBIDDEN)
                return
            body = self.rfile.read(length)

            def record() -> None:
                try:
                    said = json.loads(body)
                    row = [str(said.get(k, "")) for k in ("region", "verdict", "name", "reviewer")]
                except (ValueError, AttributeError) as error:
                    raise InputError(f"no verdict: {error}") from error
                review.say(*row)
                self._json({"verdict": review.verdict(row[0])})

            self._try(record)

        def _try(self, do: Any) -> None:
            try:
                do()
            except (AnymaskError, OSError) as error:
                self._json({"error": str(error)}, HTTPStatus.BAD_REQUEST)

        def _json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
            self._send(json.dumps(value).encode(), "application/json", status)

        def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a line a picture helps nobody."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
