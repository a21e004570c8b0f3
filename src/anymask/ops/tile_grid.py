"""How a picture is cut into square tiles (InternVL's dynamic resolution)."""

from __future__ import annotations

TILE = 448  # pixels


def tile_grid(width: int, height: int, most: int, tile: int = TILE) -> tuple[int, int]:
    """The grid whose shape is nearest to the picture's.

    Of two grids that are equally near, the one with more tiles wins when the picture has more than
    half of its pixels.

    Args:
        width, height: of the picture in pixels.
        most: tiles, at least 1.
        tile: side of a tile in pixels.

    Returns:
        (columns, rows).
    """
    grids = [(c, r) for c in range(1, most + 1) for r in range(1, most + 1) if c * r <= most]
    best, least = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        apart = abs(width / height - columns / rows)
        larger = apart == least and width * height > 0.5 * tile * tile * columns * rows
        if apart < least or larger:
            best, least = (columns, rows), apart
    return best
