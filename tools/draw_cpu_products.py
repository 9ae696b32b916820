#!/usr/bin/env python3
"""Draws docs/cpu-products.svg: how much of one thread's read bandwidth decoding reaches on each instruction set, from the
table in docs/performance.md.

    tools/draw_cpu_products.py [--check]
"""

import re

from table_drawing import DOCS, main, target

WIDTH, LEFT, BAR, STEP, TOP = 640, 170, 18, 28, 44


def rows():
    """(name, percent) of each row of the table."""
    text = (DOCS / "performance.md").read_text()
    table = text.split("| machine D, one thread |", 1)[1].split("\n\n", 1)[0]
    return [(name.replace("`", ""), int(percent)) for name, percent in re.findall(r"^\| (`.*?) \|.*\| (\d+)% \|$", table, re.M)]


def draw():
    bars = rows()
    height = TOP + STEP * len(bars) + 26
    scale = (WIDTH - LEFT - 60) / 100
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        '<text x="12" y="24" font-weight="bold">Decoding MXFP4, of one thread\'s read bandwidth</text>',
    ]
    for i, (name, percent) in enumerate(bars):
        y = TOP + STEP * i
        fill = "#b8c4d0" if " of " in name else "#2f6f9f"
        out += [
            f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{name}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{percent * scale:.1f}" height="{BAR}" fill="{fill}"/>',
            f'<text x="{LEFT + percent * scale + 6:.1f}" y="{y + 14}">{percent}%</text>',
        ]
    x = LEFT + 90 * scale
    bottom = TOP + STEP * len(bars)
    out += [target(x, TOP - 6, bottom), "</svg>"]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    main(__doc__, "cpu-products.svg", draw)
