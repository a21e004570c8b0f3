"""WOW-Seg: "A Word-free Open World Segmentation Model" (ICLR 2026). In the making: what is here so
far are the rules of Mask2Token, the Cascade Attention Mask and the names."""
