#!/usr/bin/env python3
"""Draws docs/step.svg: one step of the model, the host's part and the device's.

usage: tools/draw_step.py > docs/step.svg
"""

from html import escape

WIDTH, HEIGHT = 980, 690
INK, FAINT, HOST, DEVICE, MEMORY = "#1b1f24", "#57606a", "#fff8e6", "#eaf3ff", "#e9f7ec"


class Drawing:
    def __init__(self):
        self.parts = []

    def box(self, x, y, width, height, fill, lines=(), *, dashed=False, anchor="middle"):
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" '
                          f'stroke="{INK}" stroke-width="1.2"{dash}/>')
        middle = y + height / 2 - 8.5 * (len(lines) - 1) + 4.5
        for i, line in enumerate(lines):
            at = x + width / 2 if anchor == "middle" else x + 12
            self.text(at, middle + 17 * i, line, anchor=anchor)

    def text(self, x, y, line, *, size=13, anchor="middle", color=INK, weight="normal"):
        self.parts.append(f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{color}" '
                          f'font-weight="{weight}">{escape(line)}</text>')

    def arrow(self, points, *, label="", at=None, dashed=False, anchor="middle"):
        dash = ' stroke-dasharray="6 4"' if dashed else ""
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        self.parts.append(f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.4"{dash} '
                          'marker-end="url(#head)"/>')
        if label:
            self.text(at[0], at[1], label, size=12, color=FAINT, anchor=anchor)

    def svg(self):
        head = ('<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
                'orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="' + INK + '"/></marker></defs>')
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif">',
            "<title>One step of mxmla</title>", head,
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', *self.parts, "</svg>"])


def main():
    d = Drawing()
    # The two sides.
    d.box(20, 44, 270, 626, HOST)
    d.box(400, 44, 560, 626, DEVICE)
    d.text(155, 30, "host: what varies from step to step", weight="bold")
    d.text(680, 30, "backend: op calls shaped by the bucket alone", weight="bold")

    d.box(40, 62, 230, 62, "white", ["Scheduler", "turns, pieces of prompts, pages"])
    d.box(40, 160, 230, 196, "white", ["StepPlan::Fill", "tokens, positions, lengths", "row → sequence, block table",
                                       "cache slots, segments", "rows that want logits", "sampling options, random",
                                       "numbers, penalties, masks", "indices checked, rows padded"])
    d.arrow([(155, 124), (155, 158)])
    d.box(40, 548, 230, 86, "white", ["StepResult", "tokens, log-probabilities", "(logits where they are wanted)"])

    # The device's column of ops.
    x, width = 560, 250
    rows = [
        (62, ["embedding, rope_angles"]),
        (128, ["1  residual + RMSNorm (+ quantise)"]),
        (162, ["2  q_a and kv_a projections"]),
        (196, ["3  norms; the latent into its page"]),
        (230, ["4  q_b projection"]),
        (264, ["5  q_nope × w_kc"]),
        (298, ["6  RoPE; the key into its page"]),
        (332, ["7  paged attention, split and merged"]),
        (366, ["8  × w_vc, into o_proj's input"]),
        (400, ["9  o_proj"]),
        (442, ["norm, router, experts, combine"]),
        (508, ["norm, lm_head of wanted rows"]),
        (574, ["sample"]),
    ]
    d.box(540, 104, 290, 378, "none", dashed=True)
    d.text(822, 120, "each layer", size=12, anchor="end", color=FAINT)
    for y, lines in rows:
        d.box(x, y, width, 30 if y in (62, 442, 508, 574) else 28, "white", lines)
    for top, bottom in [(92, 126), (428, 440), (472, 506), (538, 572)]:
        d.arrow([(685, top), (685, bottom)])

    # Memory that ops read and write where it lies.
    d.box(420, 180, 96, 62, MEMORY, ["arrays of", "the step"])
    d.box(846, 196, 98, 164, MEMORY, ["KV cache", "pages:", "latent and", "rotated key,", "bf16 or FP8"])
    d.box(846, 560, 98, 58, MEMORY, ["sampled", "tokens"])
    d.arrow([(270, 211), (418, 211)], label="one upload", at=(345, 203))
    d.arrow([(516, 211), (538, 211)])
    d.arrow([(810, 210), (844, 210)])
    d.arrow([(810, 312), (844, 312)])
    d.arrow([(844, 346), (812, 346)])
    d.arrow([(810, 589), (844, 589)])
    d.arrow([(895, 560), (895, 376), (952, 376), (952, 77), (812, 77)], dashed=True)
    for i, line in enumerate(["read by the next step's embedding,", "before the host has seen them"]):
        d.text(944, 636 + 16 * i, line, size=12, anchor="end", color=FAINT)
    d.arrow([(558, 591), (272, 591)], label="download", at=(345, 583))
    d.arrow([(155, 548), (155, 400), (30, 400), (30, 93), (38, 93)])
    d.text(166, 470, "requests go on or", size=12, anchor="start", color=FAINT)
    d.text(166, 486, "give pages back", size=12, anchor="start", color=FAINT)
    print(d.svg())


if __name__ == "__main__":
    main()
