"""SAM 2 (Ravi et al. 2024): masks for clicks and boxes, and of everything in a picture."""
