"""Reading JSON files that are larger than memory should hold, piece by piece.

A file is scanned once; what is needed later is parsed again from its place. Gzipped files are
unpacked into a temporary one first, because a gzip stream has no places to return to.
"""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from anymask.errors import DataError

_CHUNK: Final = 1 << 23
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()


def read_json(path: Path) -> Any:
    """The value of a small JSON file, plain or gzipped.

    Raises:
        DataError: it cannot be read.
    """
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        return json.loads(data.decode("utf-8-sig"))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error


class JsonFile:
    """A JSON file, plain or gzipped.

    Attributes:
        path: the file as it was named.

    Raises:
        DataError: it cannot be opened, or is a broken gzip file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._plain = self.path
        self._holder: tempfile.TemporaryDirectory[str] | None = None
        with self.open() as stream:
            if stream.read(2) == b"\x1f\x8b":
                self._unpack()
        with self.open() as stream:
            self._stamp = _stamp(stream)

    def _unpack(self) -> None:
        self._holder = tempfile.TemporaryDirectory(prefix="anymask-")
        self._plain = Path(self._holder.name) / "unpacked.json"
        try:
            with gzip.open(self.path) as packed, self._plain.open("wb") as plain:
                shutil.copyfileobj(packed, plain, _CHUNK)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{self.path} cannot be unpacked: {error}. Is it a complete gzip file?"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process reads the unpacked file; the original keeps it alive.
        return {**self.__dict__, "_holder": None}

    def open(self) -> BinaryIO:
        """The unpacked bytes."""
        try:
            return self._plain.open("rb")
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"{self.path} cannot be opened: {reason}. Check the path.") from error

    def records(self, places: Sequence[tuple[int, int]]) -> list[Any]:
        """Values by where they begin and how many bytes they have.

        Raises:
            DataError: the file has changed since it was opened, or is not UTF-8.
        """
        found = []
        # Opened anew each time: an open file survives neither pickling nor forked workers.
        with self.open() as stream:
            if _stamp(stream) != self._stamp:
                raise DataError(f"{self.path} has changed since it was read: read it again.")
            for begin, length in places:
                stream.seek(begin)
                piece = stream.read(length)
                try:
                    found.append(json.loads(piece.decode("utf-8")))
                except UnicodeDecodeError:
                    raise DataError(
                        f"{self.path}: the text at byte {begin} is not UTF-8."
                    ) from None
        return found


def _stamp(stream: BinaryIO) -> tuple[int, int]:
    facts = os.fstat(stream.fileno())
    return facts.st_size, facts.st_mtime_ns


class JsonText:
    """A JSON file read in pieces.

    Bytes are taken as Latin-1 while scanning, one character a byte, so that places in the text
    are places in the file; what is kept is read again as UTF-8.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self.path = path
        self._stream = stream
        self._buffer = ""
        self._offset = 0
        self._position = 0
        self._ended = False
        self._more()
        if self._buffer.startswith(codecs.BOM_UTF8.decode("latin-1")):
            self._position = len(codecs.BOM_UTF8)

    def _more(self) -> None:
        """Drop what is read, and read on: twice as much each time nothing could be dropped."""
        kept = self._buffer[self._position :]
        block = self._stream.read(max(_CHUNK, len(kept)))
        self._ended = not block
        self._offset += self._position
        self._buffer, self._position = kept + block.decode("latin-1"), 0

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if self._ended:
                return ""
            self._more()

    def expect(self, character: str, message: str) -> None:
        if self.peek() != character:
            raise self.broken(message)
        self._position += 1

    def value(self, as_utf8: bool = False) -> tuple[Any, int, int]:
        """The next value, where it begins in the file, and its length in bytes."""
        self.peek()
        while True:
            try:
                result, end = _DECODER.raw_decode(self._buffer, self._position)
            except RecursionError:
                raise self.broken("values are nested too deeply") from None
            except json.JSONDecodeError as error:
                # An error near the end of the buffer may only mean that the rest is not read yet.
                cut = error.pos >= len(self._buffer) - 16 or error.msg.startswith("Unterminated")
                if self._ended or not cut:
                    raise self.broken(error.msg, error.pos) from None
            else:
                # A number at the very end of the buffer may go on after it.
                if end < len(self._buffer) or self._ended:
                    begin = self._position
                    if as_utf8:
                        result = self._reread(begin, end, result)
                    self._position = end
                    return result, self._offset + begin, end - begin
            self._more()

    def _reread(self, begin: int, end: int, result: Any) -> Any:
        piece = self._buffer[begin:end]
        if piece.isascii():
            return result
        try:
            return json.loads(piece.encode("latin-1").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise self.broken(f"the text is not UTF-8 ({error.reason})") from None

    def items(self, key: str, as_utf8: bool = False) -> Iterator[tuple[Any, int, int]]:
        """The elements of an array, one by one, as :meth:`value` gives them."""
        self.expect("[", f"{key} is a list")
        if self.peek() != "]":
            while True:
                yield self.value(as_utf8)
                if self.peek() != ",":
                    break
                self.expect(",", "")
        self.expect("]", f"the list {key} does not end; the file seems to be cut off")

    def members(self, message: str) -> Iterator[str]:
        """The names in an object, one by one; the caller reads each one's value before the next.

        Args:
            message: what to say where no object begins.
        """
        self.expect("{", message)
        seen: set[str] = set()
        if self.peek() != "}":
            while True:
                key = self.value(as_utf8=True)[0]
                if not isinstance(key, str):
                    raise self.broken("a name in quotes was expected")
                self.expect(":", f"a colon was expected after {key!r}")
                if key in seen:
                    raise DataError(f"{self.path}: the key {key!r} appears twice.")
                seen.add(key)
                yield key
                if self.peek() != ",":
                    break
                self.expect(",", "")
        self.expect("}", "the object does not end; the file seems to be cut off")

    def end(self) -> None:
        """Check that nothing follows."""
        if self.peek() != "":
            raise self.broken("there is more after the end")

    def broken(self, message: str, position: int | None = None) -> DataError:
        place = self._offset + (self._position if position is None else position)
        return DataError(f"{self.path} is not the expected JSON at byte {place}: {message}.")
