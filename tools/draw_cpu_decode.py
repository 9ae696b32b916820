#!/usr/bin/env python3
"""Draws docs/cpu-decode.svg: how much of the read bandwidth decoding reaches by threads and context, mxmla beside
ik_llama.cpp, from the table in docs/performance.md.

    tools/draw_cpu_decode.py [--check]
"""

import re

from table_drawing import DOCS, main, target

WIDTH, LEFT, BAR, STEP, TOP = 640, 170, 15, 44, 62
ENGINES = (("mxmla", "#2f6f9f"), ("ik_llama.cpp", "#b8c4d0"))


def rows():
    """(name, percent of each engine or None) of each row of the table."""
    text = (DOCS / "performance.md").read_text()
    table = text.split("| machine F, beside each other |", 1)[1].split("\n\n", 1)[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    percent = lambda cell: int(re.fullmatch(r"(\d+)%", cell).group(1)) if cell else None
    return [(row[0], (percent(row[3]), percent(row[6]))) for row in cells]


def draw():
    groups = rows()
    bottom = TOP + STEP * len(groups)
    scale = (WIDTH - LEFT - 60) / 100
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 26}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{bottom + 26}" fill="#fff"/>',
        '<text x="12" y="24" font-weight="bold">Decoding MXFP4 on a Xeon, of the read bandwidth</text>',
    ]
    for i, (name, fill) in enumerate(ENGINES):
        x = LEFT + 110 * i
        out += [f'<rect x="{x}" y="36" width="12" height="12" fill="{fill}"/>', f'<text x="{x + 18}" y="47">{name}</text>']
    for i, (name, percents) in enumerate(groups):
        y = TOP + STEP * i
        out.append(f'<text x="{LEFT - 8}" y="{y + 20}" text-anchor="end">{name}</text>')
        for j, percent in enumerate(percents):
            at = y + BAR * j
            if percent is None:
                out.append(f'<text x="{LEFT + 6}" y="{at + 12}" fill="#777">not run</text>')
                continue
            out += [
                f'<rect x="{LEFT}" y="{at}" width="{percent * scale:.1f}" height="{BAR - 1}" fill="{ENGINES[j][1]}"/>',
                f'<text x="{LEFT + percent * scale + 6:.1f}" y="{at + 12}">{percent}%</text>',
            ]
    x = LEFT + 90 * scale
    out += [target(x, TOP - 6, bottom), "</svg>"]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    main(__doc__, "cpu-decode.svg", draw)
