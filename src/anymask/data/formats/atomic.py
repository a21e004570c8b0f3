"""Writing files so that a reader sees the old one, the new one, but never half of one.

This module imports nothing of anymask, so that anything may use it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PART_SUFFIX = ".anymask-part"
"""End of the names of unfinished files: what a killed process leaves behind may be deleted."""


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when it is complete.

        with atomic_write("out/photo.json") as stream:
            stream.write(text.encode())

    The bytes go to a hidden file in the same folder (which is made if need be), are flushed to
    the disk, and are renamed at the end. If anything goes wrong inside, an interrupt included, the
    hidden file is removed and what lay under the name before stays.

    Args:
        path: where the file goes; an existing file is replaced.

    Yields:
        A binary stream, writable and seekable.

    Raises:
        OSError: the folder cannot be made or written to, the disk is full, or the path is a
            folder.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; a file cannot be written over it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    # The name does not grow with the target's, which may be as long as the file system allows.
    part = target.parent / f".{secrets.token_hex(8)}{PART_SUFFIX}"
    try:
        # Mode "x" makes the file with the permissions new files have here.
        with part.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
