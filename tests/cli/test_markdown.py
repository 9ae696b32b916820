"""The page's Markdown renderer, in a browser: against cmark-gfm's trees (tools/golden/markdown_fixtures.py), and against
texts that would do harm."""

import json
from pathlib import Path

import pytest
from browser import Browser, needs_browser
from conftest import TINY_GSM, needs_tiny_gsm
from test_serve import Served

pytestmark = [needs_browser, needs_tiny_gsm]
CASES = json.loads((Path(__file__).parent / "markdown.json").read_text())

# The nodes that a text becomes, in the form of markdown.json.
TREE = """
  const { MarkdownView } = await import("/page/markdown_dom.js");
  const tree = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return node.data;
    const tag = node.localName;
    if (tag === "div" && node.className === "code") {
      const language = node.querySelector(".code-head span").textContent;
      return ["pre", language === "text" ? "" : language, node.querySelector("pre").textContent];
    }
    if (tag === "div" && node.className === "table") return tree(node.firstChild);
    const children = [...node.childNodes].flatMap((child) =>
      ["thead", "tbody"].includes(child.localName) ? [...child.childNodes].map(tree) : [tree(child)]).filter((c) => c !== "");
    const joined = [];
    for (const child of children) {
      if (typeof child === "string" && typeof joined.at(-1) === "string") joined[joined.length - 1] += child;
      else joined.push(child);
    }
    if (tag === "a") return ["a", node.getAttribute("href"), ...joined];
    if (tag === "th" || tag === "td") return [tag, node.className || null, ...joined];
    if (tag === "input") return ["input", node.checked];
    if (tag === "ol") return ["ol", node.start, ...joined];
    return [tag, ...joined];
  };
  const render = (text) => {
    const view = new MarkdownView();
    view.update(text);
    return view.element;
  };
"""


@pytest.fixture(scope="module")
def page():
    served = Served(TINY_GSM)
    browser = Browser()
    browser.open(f"http://127.0.0.1:{served.port}/")
    browser.until("return document.querySelector('#model-name').textContent === 'tiny-gsm'")
    yield browser
    browser.close()
    served.end()


def normal(tree):
    """The browser's form of an address."""
    if isinstance(tree, list):
        if tree and tree[0] == "a":
            address = tree[1]
            if address.count("/") == 2 and not address.startswith("mailto"):
                address += "/"
            return ["a", address.replace("example?", "example/?"), *map(normal, tree[2:])]
        return [normal(node) for node in tree]
    return tree


def test_trees_are_those_of_cmark(page):
    found = page.async_js(TREE + "return arguments[0].map((text) => [...render(text).childNodes].map(tree))",
                          [text for text, _ in CASES])  # fmt: skip
    wrong = [(text, normal(expected), tree) for (text, expected), tree in zip(CASES, found) if normal(expected) != tree]
    for text, expected, tree in wrong[:40]:
        print(f"{text!r}\n  expected {json.dumps(expected, ensure_ascii=False)}\n  found    {json.dumps(tree, ensure_ascii=False)}")
    assert not wrong, f"{len(wrong)} of {len(CASES)}"


def test_a_text_that_grows_ends_as_the_whole(page):
    same = page.async_js(
        TREE + """
        return arguments[0].filter((text) => {
          const view = new MarkdownView();
          for (let end = 1; end <= text.length; end++) view.update(text.slice(0, end));
          return view.element.outerHTML !== render(text).outerHTML;
        })""",
        [text for text, _ in CASES],
    )
    assert same == []


HARMFUL = [
    "<script>window.hurt = 1</script>",
    "<img src=x onerror='window.hurt = 1'>",
    "<svg onload=window.hurt=1><a xlink:href='javascript:window.hurt=1'><rect/></a></svg>",
    "<iframe srcdoc='<script>parent.hurt = 1</script>'></iframe>",
    "<style>body { display: none }</style>",
    "[a](javascript:window.hurt=1) [b](JaVaScRiPt:window.hurt=1) [c](java\tscript:window.hurt=1)",
    "[a](data:text/html,<script>parent.hurt=1</script>) [b](vbscript:x) [c](file:///etc/passwd) [d](blob:http://x/y)",
    "[a](&#106;avascript:window.hurt=1) [b](\\javascript:x) [c]( javascript:x) [d](<javascript:x>)",
    "<javascript:window.hurt=1> <data:text/html,x>",
    "[a](/relative) [b](#part) [c](//host.example/x) [d](page/app.js)",
    "![a](http://outside.example/pixel.png) ![b](javascript:x)",
    "```html\n<script>window.hurt = 1</script>\n```",
    "```\"onmouseover=window.hurt=1 x=\"\ncode\n```",
    "| <img src=x onerror=window.hurt=1> | b |\n|--|--|\n| <b onclick=x>c</b> | d |",
    "https://a.example/\"onmouseover=\"window.hurt=1",
    "[\"><img src=x onerror=window.hurt=1>](https://a.example/\"><script>window.hurt=1</script>)",
    "# <script>window.hurt=1</script>\n> <script>window.hurt=1</script>\n- <script>window.hurt=1</script>",
    "\\[<img src=x onerror=window.hurt=1>\\] $$<script>window.hurt=1</script>$$ \\(<b>\\)",
    "\u202etxt.exe \u0000 \ufffe",
]
ALLOWED_TAGS = {"div", "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "hr", "br", "em", "strong",
                "del", "code", "pre", "a", "span", "button", "table", "thead", "tbody", "tr", "th", "td", "input"}  # fmt: skip
ALLOWED_ATTRIBUTES = {"class", "href", "target", "rel", "type", "disabled", "checked", "start", "tabindex", "role",
                      "aria-label", "aria-level"}  # fmt: skip


@pytest.mark.parametrize("text", HARMFUL)
def test_harmful_texts_stay_texts(page, text):
    page.requests()
    found = page.async_js(
        TREE + """
        const element = render(arguments[0]);
        document.body.append(element);
        await new Promise((resolve) => setTimeout(resolve, 60));
        const all = [...element.querySelectorAll("*")];
        const found = { tags: all.map((e) => e.localName), attributes: all.flatMap((e) => e.getAttributeNames()),
          links: [...element.querySelectorAll("a")].map((e) => [e.protocol, e.rel, e.href]), text: element.textContent,
          hurt: window.hurt ?? null, namespaces: all.map((e) => e.namespaceURI) };
        element.remove();
        return found""",
        text,
    )
    assert found["hurt"] is None
    assert set(found["tags"]) <= ALLOWED_TAGS and set(found["attributes"]) <= ALLOWED_ATTRIBUTES
    assert set(found["namespaces"]) <= {"http://www.w3.org/1999/xhtml"}
    for protocol, rel, _ in found["links"]:
        assert protocol in ("http:", "https:", "mailto:") and "noopener" in rel
    # Nothing is lost: what is no markup of ours can be read.
    shown = found["text"] + "".join(link[2] for link in found["links"])
    assert shown.lower().count("script") == text.lower().count("script")
    assert page.requests() == []


HUGE = {
    "stars": "*" * 300_000 + "a",
    "stars and words": "*a " * 100_000,
    "strong and em": "**a *b " * 50_000,
    "closers alone": "a* " * 100_000,
    "brackets": "[" * 300_000,
    "links without an end": "[a](" * 75_000,
    "links with a title": "[a](b \"" * 50_000,
    "nested links": "[" * 50_000 + "a" + "](https://a.example)" * 50_000,
    "backticks": "".join("`" * (i % 700) + " " for i in range(800)),
    "ticks": "` `` " * 60_000,
    "quotes": ">" * 100_000 + "a",
    "lists": "- " * 100_000 + "a",
    "deep list": "\n".join(" " * (2 * i) + "- a" for i in range(600)),
    "spaces": "a" + " " * 300_000 + "b\n" * 2,
    "heading": "# " + "#" * 300_000 + " " * 1000 + "x",
    "short lines": "a\n" * 100_000,
    "a long line": "word " * 100_000,
    "addresses": "https://a.example/((( " * 20_000,
    "an address": "https://a.example/" + "(" * 300_000,
    "entities": "&amp" * 100_000,
    "tex": "\\(" * 100_000 + "$$" * 100_001,
    "a wide table": "|" + "a|" * 50_000 + "\n|" + "-|" * 50_000 + "\n",
    "tables": "| a | b |\n|--|--|\n" + "| 1 | 2 |\n" * 5_000,
    "strings in code": "```c\n" + "\"\\" * 40_000 + "\n```",
    "comments in code": "```c\n" + "/*" * 40_000 + "\n```",
    "fences": "```\n" * 50_000,
    "escapes": "\\" * 300_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_texts_are_drawn(page, name):
    # The script's time limit of a minute is far more than time that grows with the length takes, and far less than one
    # that grows with its square.
    length = page.async_js(TREE + "const e = render(arguments[0]); document.body.append(e); const n = e.textContent.length;"
                           "e.remove(); return n", HUGE[name])  # fmt: skip
    assert length > 0
