"""WOW-Seg: "A Word-free Open World Segmentation Model" (ICLR 2026)."""
