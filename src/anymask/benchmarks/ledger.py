"""What was answered about every region: a file of JSON lines that only grows."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymask.errors import DataError


class Ledger:
    """Answers by region and stage; a later line about the same replaces an earlier one.

    Every line is on the disk before the next question is asked about its region, so a killed run
    loses at most what was not answered yet. A line that was cut off by the end of its process is
    dropped when the file is opened again.

    Args:
        path: the file; made when the first line is written.

    Raises:
        DataError: a line in the middle is damaged; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        if path.is_file():
            self._read()

    def _read(self) -> None:
        text = self.path.read_bytes()
        lines = text.split(b"\n")
        whole, rest = lines[:-1], lines[-1]
        for number, line in enumerate(whole, 1):
            try:
                row = json.loads(line)
                self._rows[row["region"], row["stage"]] = row
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{self.path}:{number} is no line of this file ({error!r}): take the line out "
                    "by hand, and its question will be asked again"
                ) from error
        if rest:  # its process was killed while writing it
            with self.path.open("r+b") as stream:
                stream.truncate(len(text) - len(rest))

    def get(self, region: str, stage: str) -> dict[str, Any] | None:
        """The newest line about a region's stage, or None."""
        return self._rows.get((region, stage))

    def stage(self, stage: str) -> dict[str, dict[str, Any]]:
        """region -> newest line of a stage."""
        return {region: row for (region, kind), row in self._rows.items() if kind == stage}

    def add(self, region: str, stage: str, found: Mapping[str, Any]) -> None:
        """Write a line; it is on the disk when this returns. Threads may call it at once.

        Raises:
            OSError: it cannot be written; nothing is remembered then.
        """
        row = {"region": region, "stage": stage, **found, "time": round(time.time(), 3)}
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            self._rows[region, stage] = row
