"""One table: the name of a model -> where its weights come from, under which licence, how large.

A name that is not in the table is a folder, a checkpoint file or a Hugging Face id.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from anymask.errors import CheckpointError

BUNDLED = Path(__file__).with_name("weights")
DEFAULT = "segprompt-pocket"
DEFAULT_MATCHER = "ovsnet-scenes"
DEFAULT_FINDER = "openworldsam-scenes"
DEFAULT_NAMER = "wowseg-scenes"


@dataclass(frozen=True)
class Checkpoint:
    """A row of the table.

    Attributes:
        name: what people write after ``--model``.
        verb: what it is for.
        method: paper or algorithm.
        source: ``"bundled"``, ``"hub:<id>"`` or ``"none"`` (an algorithm without weights).
        licence: of the weights.
        size: of the download or file in bytes; 0 for none.
        needs: what has to be there besides the package.
        sha256: of the bundled weights file, else empty.
        note: what to know before using it.
        scenes_only: it knows nothing of photographs.
    """

    name: str
    verb: str
    method: str
    source: str
    licence: str
    size: int
    needs: str = "nothing"
    sha256: str = ""
    note: str = ""
    scenes_only: bool = False


SAM2_SIZES = {"tiny": 156, "small": 184, "base-plus": 324, "large": 898}  # megabytes

TABLE = (
    Checkpoint(
        name="segprompt-pocket",
        verb="discover",
        method="SegPrompt, class-agnostic, 4.2 M parameters; find: examples",
        source="bundled",
        licence="research use only",
        size=0,
        sha256="7e01e82930a6a0a970908f09e1522ed7d04e005aa9fa95858956f05a9793c6c8",
        note=(
            "trained on photographs some of which carry non-commercial licences; see its model card"
        ),
    ),
    Checkpoint(
        name="ovsnet-scenes",
        verb="match",
        method="OVSNet, 3.5 M parameters, for drawn scenes only",
        source="bundled",
        licence="Apache-2.0",
        size=0,
        sha256="c902fa6d69f6c8f03e15b1a15763882414cf43816d0a11bccc72d81c343feda3",
        note="knows the things of the scenes world; for photographs use FC-CLIP or MAFT+ weights",
        scenes_only=True,
    ),
    Checkpoint(
        name="openworldsam-scenes",
        verb="find",
        method="OpenWorldSAM and SAM 2, 6.9 M parameters, for drawn scenes only",
        source="bundled",
        licence="Apache-2.0",
        size=0,
        sha256="d0cf0b323a7240a5e6ae0ac5bcd8a0f8f155941e4836e05c288cf1a266c7bb58",
        note="phrases, clicks and boxes on scenes; for photographs use a SAM 2 or OpenWorldSAM",
        scenes_only=True,
    ),
    Checkpoint(
        name="wowseg-scenes",
        verb="name",
        method="WOW-Seg on a small InternVL, 2.5 M parameters, for drawn scenes only",
        source="bundled",
        licence="Apache-2.0",
        size=0,
        sha256="f14148b61d38b57010c51ec25f4ea1ae0cb304cf0cbaec9420aa48c19b5fdfbc",
        note="names the things of the scenes world; for photographs use WOW-Seg or InternVL",
        scenes_only=True,
    ),
    Checkpoint(
        name="osm-scenes",
        verb="name",
        method="OSM, 2.8 M parameters, for drawn scenes only",
        source="bundled",
        licence="Apache-2.0",
        size=0,
        sha256="395ae878125bb138db16114e5f8db487b895b15028a016bd4b636ce8fce139cf",
        note="names the things of the scenes world in three vocabularies or any words",
        scenes_only=True,
    ),
    Checkpoint(
        name="felzenszwalb",
        verb="discover",
        method="graph-based segmentation (2004), the classical baseline",
        source="none",
        licence="no weights",
        size=0,
        needs="pip install 'anymask[classical]'",
    ),
    Checkpoint(
        name="mask2former-swin-tiny",
        verb="discover",
        method="Mask2Former, COCO instances, used without its classes",
        source="hub:facebook/mask2former-swin-tiny-coco-instance",
        licence="as stated on its hub page",
        size=190_000_000,
        needs="network once, or a downloaded folder",
    ),
    *(
        Checkpoint(
            name=f"{release}-hiera-{size}",
            verb="discover",
            method=f"SAM 2 ({release}, Hiera-{size}): automatic masks; clicks and boxes with find",
            source=f"hub:facebook/{release}-hiera-{size}",
            licence="Apache-2.0",
            size=megabytes * 1_000_000,
            needs="network once, or a downloaded folder or file",
        )
        for release in ("sam2.1", "sam2")
        for size, megabytes in SAM2_SIZES.items()
    ),
)


def find(name: str) -> Checkpoint | None:
    """The row of a name, or None."""
    return next((row for row in TABLE if row.name == name), None)


def names_for(*verbs: str) -> str:
    """The names of the table for some verbs, for messages."""
    return ", ".join(row.name for row in TABLE if row.verb in verbs)


def bundled_folder(name: str) -> Path:
    """Folder of bundled weights.

    Raises:
        CheckpointError: this copy of the package lacks them.
    """
    folder = BUNDLED / name
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"the weights of {name} are missing from this installation ({folder}): install the "
            "package again, or name another model with --model"
        )
    return folder


def digest_of(folder: Path) -> str:
    """sha256 of a folder's ``model.safetensors``."""
    with (folder / "model.safetensors").open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def model_folder(name: str | Path) -> Path:
    """The local folder behind a name or path, for fine-tuning.

    Raises:
        CheckpointError: it is neither a bundled model nor a folder with one.
    """
    row = find(str(name))
    if row is not None and row.source == "bundled":
        return bundled_folder(row.name)
    folder = Path(name)
    if (folder / "config.json").is_file():
        return folder
    raise CheckpointError(
        f"{name} is neither a bundled model nor a folder with a saved model; bundled is {DEFAULT}"
    )
