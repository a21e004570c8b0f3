"""Compare this library with outputs of the official implementations.

    python tests/golden.py DIR...

Each DIR holds inputs, weights and outputs in the layout of one of the known kinds; the kind is
recognised by the contents, and all sizes are read from the tensors. Prints the largest error and
the tolerance of every output; exits with 1 when one is exceeded or a folder is of no known kind.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import ModuleType

from golden_checks import (
    fcclip_head_functions,
    fcclip_model,
    lvis_ow_metric,
    maftplus_parts,
    matcher_criterion,
    openworldsam_adapter,
    openworldsam_beit3,
    openworldsam_preprocess,
    openworldsam_train,
    osm_maskqformer,
    osm_metrics,
    osm_preprocess,
    pixel_decoder,
    postprocessing,
    sam2_automatic_mask_generator,
    segprompt_decoder,
    segprompt_selection,
    segprompt_training_step,
    wowseg_cam,
    wowseg_forward,
    wowseg_mask2token,
    wowseg_metrics,
    wowseg_text,
)

CHECKS: tuple[ModuleType, ...] = (
    segprompt_training_step,
    pixel_decoder,
    segprompt_decoder,
    segprompt_selection,
    matcher_criterion,
    postprocessing,
    lvis_ow_metric,
    fcclip_head_functions,
    fcclip_model,
    maftplus_parts,
    openworldsam_adapter,
    openworldsam_beit3,
    openworldsam_preprocess,
    openworldsam_train,
    osm_maskqformer,
    osm_metrics,
    osm_preprocess,
    sam2_automatic_mask_generator,
    wowseg_cam,
    wowseg_forward,
    wowseg_mask2token,
    wowseg_metrics,
    wowseg_text,
)


def check_of(folder: Path) -> ModuleType | None:
    """The check for a folder, or None."""
    return next((check for check in CHECKS if check.matches(folder)), None)


def report(folder: Path) -> bool:
    """Print one folder's comparison; False when something is wrong."""
    if folder.is_file():
        print(f"{folder}: a file, skipped")
        return True
    if not folder.is_dir():
        print(f"{folder}: no such folder")
        return False
    check = check_of(folder)
    if check is None:
        print(f"{folder}: of no known kind")
        return False
    kind = check.__name__.rpartition(".")[2]
    print(f"{folder}: {kind}")
    try:
        rows = check.check(folder)
    except Exception:
        print("  the check itself failed:")
        traceback.print_exc(file=sys.stdout)
        return False
    wrong = 0
    for name, error, tolerance in rows:
        bad = not error <= tolerance
        wrong += bad
        print(f"  {'WRONG' if bad else 'ok':5} {error:9.2e} <= {tolerance:8.2e}  {name}")
    print(f"  {len(rows) - wrong} of {len(rows)} outputs agree")
    return bool(rows) and not wrong


def main(arguments: list[str]) -> int:
    """Check the folders; the exit code."""
    if not arguments:
        print(__doc__)
        return 2
    results = [report(Path(argument)) for argument in arguments]
    print(f"{sum(results)} of {len(results)} folders are in order")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
