"""What the drawings of docs/performance.md's tables share: the line of the target, and the program around them."""

import argparse
import pathlib
import sys

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"


def target(x, top, bottom):
    """The dashed line at 90% of the read bandwidth."""
    return (
        f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#a33" stroke-dasharray="4 3"/>\n'
        f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#a33">90%</text>'
    )


def main(description, name, draw):
    """Writes draw() to docs/NAME, or with --check compares the two."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where the drawing is not that of the table")
    check = parser.parse_args().check
    path = DOCS / name
    if check:
        sys.exit(0 if path.read_text() == draw() else f"{path}: not what the table in performance.md gives; run this script")
    path.write_text(draw())
