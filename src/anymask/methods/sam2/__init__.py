"""SAM 2 (Ravi et al. 2024): masks for clicks and boxes, and of everything in a picture."""

from anymask.methods.sam2.automatic import AutomaticMasks, AutomaticSettings
from anymask.methods.sam2.prompting import Sam2Prompter
from anymask.nn.sam2 import Sam2, load_sam2
from anymask.nn.sam2_keys import load_sam2_file

__all__ = [
    "AutomaticMasks",
    "AutomaticSettings",
    "Sam2",
    "Sam2Prompter",
    "load_sam2",
    "load_sam2_file",
]
