"""Lays out rows as a table that fits a terminal; never looks at what they say."""

from __future__ import annotations

from collections.abc import Sequence

GAP = 2
# No column is cut further, whatever the terminal's width.
LEAST = 8


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int = 0) -> list[str]:
    """Lay rows out in columns, under their headings.

    Args:
        headings: one a column.
        rows: the texts of each row.
        width: characters that a line may have. Where a table is wider, its widest columns are cut, the first never; 0 cuts none.

    Returns:
        the lines, without trailing spaces.
    """
    cells = [[heading.upper() for heading in headings], *rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(headings))]
    while width and sum(widths) + GAP * (len(widths) - 1) > width:
        widest = max(range(1, len(widths)), key=lambda place: widths[place])
        if widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    return [(" " * GAP).join(map(_fitted, row, widths)).rstrip() for row in cells]


def _fitted(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else f"{text[: size - 1]}…"
