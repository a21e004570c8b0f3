"""OpenWorldSAM: "Extending SAM2 for Universal Image Segmentation with Language Prompts"
(NeurIPS 2025)."""
