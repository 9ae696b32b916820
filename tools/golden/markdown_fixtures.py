#!/usr/bin/env python3
"""Markdown and what cmark-gfm makes of it, for the test of the page's renderer: tests/cli/markdown.json.

    tools/golden/markdown_fixtures.py        (needs Debian's cmark-gfm)

A tree is [tag, ...children] with texts as strings; links are ["a", address, ...], code blocks ["pre", language, text],
cells ["th"|"td", alignment, ...], boxes of tasks ["input", is ticked], numbered lists ["ol", first number, ...].
"""

import html.parser
import json
import random
import re
import subprocess
from pathlib import Path

OUTPUT = Path(__file__).resolve().parents[2] / "tests" / "cli" / "markdown.json"

WRITTEN = [
    "plain text\nwith two lines",
    "a hard  \nbreak and a\\\nsecond",
    "# one\n## two ##\n###### six\n####### seven\n#none\n# \n## a # b #",
    "*em* **strong** ***both*** _em_ __strong__ ~~gone~~",
    "snake_case_name and 2*3*4 and **not** closed *",
    "`code` ``with ` tick`` ` a ` `` ` `` `open",
    "\\*not em\\* \\# \\> \\\\ \\a",
    "[link](https://a.example/x) [t](https://a.example \"title\") [*em* `c`](https://a.example/(b)) [a](<https://a.example/b>)",
    "<https://a.example/?q=1&r=2> <mailto:a@b.example>",
    "see https://a.example/x_y_z, or (https://b.example/(c)). https://c.example/?",
    "[not a link] [nor] (https://a.example) ]( [x](",
    "[outer [inner](https://i.example) text](https://o.example)",
    "&amp; &lt;b&gt; &#65; &#x42; &copy; &nosuch; & &;",
    "```cpp\nint x = 1;\n\n  // two\n```\nafter",
    "~~~\n```\n~~~\n````md\n```\n````",
    "```\nunclosed\ncode",
    "```\nunclosed\ncode\n",
    "  ```\n  indented\n    more\n  ```",
    "- a\n- b\n- c",
    "- a\n\n- b\n\n- c",
    "* a\n  * b\n    * c\n* d",
    "1. one\n2. two\n   - nested\n   - list\n3. three",
    "7) seven\n8) eight",
    "- a\n\n  second paragraph\n- b",
    "- a\n  ```py\n  x\n\n  y\n  ```\n- b",
    "- a\nlazy\n- b\n\nafter",
    "1. a\n\n2. b\n- other",
    "- [ ] open\n- [x] done\n- [X] Done\n- [y] none",
    "text\n- list after text\n2. not a list",
    "text\n1. a list",
    "-\n- \n- x",
    "> quote\n> more\nlazy\n\nafter",
    "> # head\n> - a\n> - b\n>\n> > inner\n> back",
    "> ```\n> code\n> ```\ntext",
    "***\n---\n___\n- - -\n--",
    "| a | b | c |\n|:--|:-:|--:|\n| 1 | *2* | `3` |\n| x \\| y | z |\n\nafter",
    "a | b\n--|--\n1 | 2\n3 | 4 | 5",
    "| a |\n|--|--|\n| 1 |",
    "before\n\n| h |\n|---|\n| 1 |\n> quote",
    "- a\n\n\n- b\n\n\n\ntext",
    "+ a\n+ b\n- c",
    "para\n\n\n\npara\n   three spaces",
    "<script>alert(1)</script> is *text*".replace("<", "\\<"),
    "中文**强调**文字 и *курсив*, emoji 🎉*x*🎉",
    "1. a\n   1. b\n      1. c\n\n      d\n2. e",
    "- a\n  > q\n  > r\n- b\n\n    three",
    "**a *b* c** *a **b** c* ***a** b* ***a* b**",
    "*a **b* c** **a *b** c*",
    "~~a *b~~ c* ~~ d ~~",
    "a\n***\nb\n# c\nd",
    "- a\n- ***\n- b",
]
INLINE = ["*", "**", "***", "_", "__", "~~", "`", "``", "a", "b", "c d", " ", " ", ".", "(", ")", "[", "]",
          "[x](https://e.example)", "é", "\\*", "\n", "word", "1"]  # fmt: skip
LINES = ["- a", "- b", "  - c", "    - d", "1. e", "2. f", "   g", "  h", "", "", "> i", "> - j", ">", "k", "# l", "```",
         "* m", "    n o", "| p | q |", "***", "- [ ] r"]  # fmt: skip


def random_cases(count, seed):
    draw = random.Random(seed)
    for _ in range(count):
        text = "".join(draw.choice(INLINE) for _ in range(draw.randint(3, 14)))
        # A text that begins so is a block, and one that has such lines is of several.
        if not any(line.lstrip()[:1] in tuple("*_~`1!") and not line.strip("*_~` ") for line in text.split("\n")):
            yield "x" + text
    for _ in range(count // 2):
        yield "\n".join(draw.choice(LINES) for _ in range(draw.randint(2, 9)))


HEADS = {"a": 2, "th": 2, "td": 2, "input": 2, "ol": 2, "pre": 2}


class Tree(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack = [["root"]]
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        node = [tag]
        if tag in ("thead", "tbody"):
            return
        if tag == "a":
            node.append(attributes["href"])
        elif tag in ("th", "td"):
            node.append(attributes.get("align") if attributes.get("align") != "left" else None)
        elif tag == "input":
            node.append("checked" in attributes)
        elif tag == "ol":
            node.append(int(attributes.get("start", 1)))
        elif tag == "code" and self.stack[-1][0] == "pre":
            self.stack[-1].append(attributes.get("class", "").removeprefix("language-"))
            return
        self.stack[-1].append(node)
        if tag not in ("br", "hr", "input"):
            self.stack.append(node)

    def handle_endtag(self, tag):
        if tag in ("thead", "tbody", "br", "hr", "input") or (tag == "code" and self.stack[-1][0] == "pre"):
            return
        self.stack.pop()

    def handle_data(self, data):
        top = self.stack[-1]
        if len(top) > HEADS.get(top[0], 1) and isinstance(top[-1], str):
            top[-1] += data
        else:
            top.append(data)


def simplified(node):
    """Without the line ends that HTML is laid out with."""
    if not isinstance(node, list):
        return node
    tag = node[0]
    if tag == "pre":
        return ["pre", node[1], "".join(node[2:]).removesuffix("\n")]
    start = HEADS.get(tag, 1)
    out = list(node[:start])
    children = node[start:]
    for i, child in enumerate(children):
        if isinstance(child, str):
            inline = tag not in ("root", "ul", "ol", "li", "blockquote", "table", "tr")
            if tag == "li":
                # A tight item's text, beside the line ends around its blocks.
                before = children[i - 1][0] if i and isinstance(children[i - 1], list) else None
                if before in BLOCKS or i == 0:
                    child = child.removeprefix("\n")
                behind = children[i + 1][0] if i + 1 < len(children) and isinstance(children[i + 1], list) else None
                if behind in BLOCKS or i + 1 == len(children):
                    child = child.removesuffix("\n")
                if before == "input":
                    child = child.removeprefix(" ")
            elif before_break(children, i):
                child = child.removeprefix("\n")
            if child and (inline or tag == "li"):
                out.append(child)
        else:
            out.append(simplified(child))
    return out


BLOCKS = {"p", "ul", "ol", "pre", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "table"}


def before_break(children, i):
    return i > 0 and children[i - 1] == ["br"]


def main():
    cases = []
    for text in [*WRITTEN, *random_cases(160, 7)]:
        made = subprocess.run(
            ["cmark-gfm", "-e", "table", "-e", "strikethrough", "-e", "autolink", "-e", "tasklist", "--strikethrough-double-tilde"],
            input=text.encode(), capture_output=True, check=True).stdout.decode()  # fmt: skip
        # Indented code is text to the page, and so it is behind a mark in a quote.
        if ("<pre><code>" in made and "```" not in text and "~~~" not in text) or re.search(r"\A {4}|^>.*\n {4}", text, re.M):
            continue
        cases.append([text, simplified(Tree(made).stack[0])[1:]])
    OUTPUT.write_text("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
