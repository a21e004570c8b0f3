"""Pure functions without weights: run-length masks, boxes, whole sets of masks, tiles.

`rle` and `boxes` stand below the types (`Segments` is built from them); the other modules stand
on the types.
"""
