"""``anymask doctor``: is this installation sound, and what can this machine do?"""

from __future__ import annotations

import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version

import typer

EXTRAS = {
    "heic": "pillow_heif",
    "supervision": "supervision",
    "classical": "skimage",
    "train": "tensorboard",
}


def doctor() -> None:
    """Print versions, devices and optional parts, and check the bundled weights."""
    import torch

    from anymask.checkpoints import TABLE, bundled_folder, digest_of
    from anymask.errors import CheckpointError
    from anymask.version import __version__

    lines = [("anymask", __version__), ("python", platform.python_version())]
    for package in ("torch", "transformers", "numpy", "pillow", "pycocotools"):
        try:
            lines.append((package, version(package)))
        except PackageNotFoundError:
            lines.append((package, "missing: install anymask again"))
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no"
    lines += [
        ("system", platform.platform()),
        ("threads", str(torch.get_num_threads())),
        ("cuda", cuda),
        ("mps", "yes" if torch.backends.mps.is_available() else "no"),
    ]
    for extra, module in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        lines.append((f"extra {extra}", "yes" if there else f"no (pip install 'anymask[{extra}]')"))
    sound = True
    for row in TABLE:
        if row.source == "bundled":
            try:
                same = digest_of(bundled_folder(row.name)) == row.sha256
                state = "ok" if same else "DAMAGED: install the package again"
            except CheckpointError as error:
                same, state = False, str(error)
            sound = sound and same
            lines.append((row.name, state))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        typer.echo(f"{name:<{width}}  {value}")
    if not sound:
        raise typer.Exit(1)
