"""A cell as a picture: SVG text that stands alone or inside a page."""

from collections.abc import Mapping
from html import escape

from .cell import Cell

COLUMN, ROW, RADIUS, MARGIN = 76, 66, 17, 34  # pixels
COLOURS = {
    "input": "#8d99a6", "sepconv3x3": "#3f7fbf", "sepconv5x5": "#274e86", "conv1x1": "#d98b2b",
    "maxpool3x3": "#5a9e6f", "identity": "#b9b9b9", "output": "#8d99a6",
}  # fmt: skip
OTHER = "#9b6fb0"


def draw_cell(cell: Cell, titles: Mapping[int, str] | None = None, heat: Mapping[int, float] | None = None) -> str:
    """The SVG of a cell, from its input at the top to its leaves at the bottom.

    Args:
        cell: the graph.
        titles: of the nodes, shown when a pointer rests on them.
        heat: of the nodes, in [0, 1]: the wider a node's rim, the more it has.
    """
    places, width, height = _lay_out(cell)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11" role="img">']
    lines += [_edge(places[i], places[j]) for i, j in cell.edges]
    for node, op in enumerate(cell.ops):
        x, y = places[node]
        title = escape((titles or {}).get(node, f"node {node}: {op}"))
        rim = 1.0 + 7.0 * min(max((heat or {}).get(node, 0.0), 0.0), 1.0)
        leaf = ' stroke-dasharray="3 2"' if node in cell.leaves and not heat else ""
        colour = "#b3261e" if heat else "#333"
        lines.append(
            f'<g><title>{title}</title><circle cx="{x:g}" cy="{y:g}" r="{RADIUS}" fill="{COLOURS.get(op, OTHER)}" '
            f'stroke="{colour}" stroke-opacity="0.75" stroke-width="{rim:.1f}"{leaf}/>'
            f'<text x="{x:g}" y="{y + 4:g}" text-anchor="middle" fill="#fff">{node}</text></g>'
        )
    lines += _legend(cell, height)
    return "\n".join([*lines, "</svg>"])


def _lay_out(cell: Cell) -> tuple[list[tuple[float, float]], int, int]:
    """Centres of the nodes, and the picture's width and height.

    A node's row is its longest path from the input; in a row, nodes stand in the order of the mean place of what
    they read.
    """
    rows: list[list[int]] = []
    depth: list[int] = []
    for node, reads in enumerate(cell.predecessors):
        depth.append(1 + max((depth[i] for i in reads), default=-1))
        rows.extend([] for _ in range(depth[node] + 1 - len(rows)))
        rows[depth[node]].append(node)
    widest = max(map(len, rows))
    width = max((widest - 1) * COLUMN + 2 * MARGIN, 90 * len(set(cell.ops)) + MARGIN)
    places = [(0.0, 0.0)] * len(cell.ops)
    for level, row in enumerate(rows):
        def mean(node: int) -> float:
            reads = cell.predecessors[node]
            return sum(places[i][0] for i in reads) / len(reads) if reads else width / 2

        row.sort(key=lambda node: (mean(node), node))
        shift = (level % 2) * COLUMN / 4 if len(row) < widest else 0  # an edge past a row misses its nodes more often
        for k, node in enumerate(row):
            places[node] = (width / 2 + (k - (len(row) - 1) / 2) * COLUMN + shift, MARGIN + level * ROW)
    return places, width, 2 * MARGIN + (len(rows) - 1) * ROW + 24


def _edge(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x, y), (u, v) = start, end
    bend = 0.0 if v - y <= ROW else (0.35 * COLUMN if u >= x else -0.35 * COLUMN)  # around the rows between
    middle = (y + v) / 2
    path = f"M{x:g} {y:g} C{x + bend:g} {middle:g} {u + bend:g} {middle:g} {u:g} {v - RADIUS:g}"
    return f'<path d="{path}" fill="none" stroke="#777" stroke-opacity="0.7"/>'


def _legend(cell: Cell, height: int) -> list[str]:
    found = dict.fromkeys(cell.ops)
    return [
        f'<circle cx="{14 + 90 * k}" cy="{height - 10}" r="6" fill="{COLOURS.get(op, OTHER)}"/>'
        f'<text x="{24 + 90 * k}" y="{height - 6}" fill="#333">{escape(op)}</text>'
        for k, op in enumerate(found)
    ]
