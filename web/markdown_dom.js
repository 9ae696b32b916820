// The tree of markdown_blocks.js and markdown_inline.js as DOM nodes. Texts are text nodes and addresses have passed
// safeHref: whatever a model writes, it is neither markup nor script, and nothing is loaded.

import { el } from "./dom.js";
import { copyButton } from "./copy.js";
import { highlighted } from "./highlight.js";
import { parseBlocks } from "./markdown_blocks.js";
import { parseInline } from "./markdown_inline.js";

/** Markdown that grows: only blocks that changed are built again. */
export class MarkdownView {
  constructor() {
    this.element = el("div", { class: "markdown" });
    this.sources = [];
  }

  /** @param {string} text  the whole of it so far */
  update(text) {
    const blocks = parseBlocks(text);
    blocks.forEach((block, i) => {
      const source = block.type + block.source;
      if (this.sources[i] === source) return;
      const node = blockNode(block);
      if (i < this.sources.length) this.element.children[i].replaceWith(node);
      else this.element.append(node);
      this.sources[i] = source;
    });
    while (this.element.children.length > blocks.length) this.element.lastElementChild.remove();
    this.sources.length = blocks.length;
  }
}

function blockNode(block) {
  switch (block.type) {
    // A message has a heading of its own, so its text's are shown as they are and counted below it.
    case "heading": return el(`h${block.level}`, { "aria-level": Math.min(block.level + 2, 9) }, inlineNodes(block.text));
    case "code": return codeNode(block);
    case "math": return el("div", { class: "math block", tabindex: 0 }, block.text);
    case "rule": return el("hr");
    case "quote": return el("blockquote", {}, block.blocks.map(blockNode));
    case "list": return listNode(block);
    case "table": return tableNode(block);
    default: return el("p", {}, inlineNodes(block.text));
  }
}

function inlineNodes(text) {
  return parseInline(text).map(inlineNode);
}

function inlineNode(node) {
  if (typeof node === "string") return document.createTextNode(node);
  switch (node.type) {
    case "code": return el("code", {}, node.text);
    case "math": return el("span", { class: "math" }, node.text);
    case "break": return el("br");
    case "link":
      return el("a", { href: node.href, target: "_blank", rel: "noopener noreferrer" }, node.children.map(inlineNode));
    default: return el(node.type, {}, node.children.map(inlineNode));
  }
}

function codeNode({ language, text }) {
  const code = el("code", {}, highlighted(text, language));
  return el("div", { class: "code" },
    el("div", { class: "code-head" }, el("span", {}, language || "text"), copyButton("Copy code", () => text)),
    el("pre", { tabindex: 0, "aria-label": `Code${language ? ` in ${language}` : ""}` }, code));
}

function listNode({ ordered, start, tight, items }) {
  const list = el(ordered ? "ol" : "ul", ordered && start !== 1 ? { start } : {});
  for (const item of items) {
    const children = item.blocks.flatMap((block) =>
      tight && block.type === "paragraph" ? inlineNodes(block.text) : [blockNode(block)]);
    const box = item.task === null ? null : el("input", { type: "checkbox", disabled: true, checked: item.task, "aria-label": "task" });
    list.append(el("li", item.task === null ? {} : { class: "task" }, box, children));
  }
  return list;
}

function tableNode({ align, head, rows }) {
  const row = (cells, tag) =>
    el("tr", {}, cells.map((cell, i) => el(tag, { class: align[i] }, inlineNodes(cell))));
  return el("div", { class: "table", tabindex: 0, role: "region", "aria-label": "Table" },
    el("table", {}, el("thead", {}, row(head, "th")), el("tbody", {}, rows.map((cells) => row(cells, "td")))));
}
