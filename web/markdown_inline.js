// Inline Markdown (CommonMark's, with GitHub's ~~ and bare addresses) to a tree of plain objects. Time grows with the
// text's length whatever the text is: no search goes back further than a fixed number of delimiters or characters.
//
// A node is a string or {type, children | text | href}: em, strong, del, link (children); code, math (text); break.

import { safeHref } from "./safe_href.js";

const MOST_OPEN = 64; // delimiters and brackets that wait for their end: the depth of the tree, too
const LONGEST_ADDRESS = 2000;
const LONGEST_MATH = 4000;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", mdash: "—", ndash: "–",
  hellip: "…", times: "×", rarr: "→", larr: "←", le: "≤", ge: "≥" };
const ASCII_PUNCTUATION = /[!-/:-@[-`{-~]/;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const SPACE = /\s/;

/** @param {string} text  @returns {Array} nodes */
export function parseInline(text) {
  return new InlineParser(text).parse();
}

/** @typedef {{mark: string, count: number, length: number, opens: boolean, closes: boolean}} Delimiter */

class InlineParser {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.pending = ""; // literal text not yet in nodes
    this.nodes = []; // strings, finished nodes, and Delimiters
    this.brackets = []; // indices in nodes of "[" that may begin a link
    this.backticks = null; // length of a run -> its positions, found once
    this.without = new Set(); // closing strings that do not occur any more
  }

  parse() {
    while (this.at < this.text.length) this.step();
    this.flush();
    return resolve(this.nodes);
  }

  flush() {
    if (this.pending) this.nodes.push(this.pending);
    this.pending = "";
  }

  push(node) {
    this.flush();
    this.nodes.push(node);
  }

  literal(count = 1) {
    this.pending += this.text.substr(this.at, count);
    this.at += count;
  }

  step() {
    switch (this.text[this.at]) {
      case "\\": return this.escape();
      case "`": return this.code();
      case "*": case "_": case "~": return this.delimiters();
      case "[": return this.openBracket(1);
      case "!": return this.text[this.at + 1] === "[" ? this.openBracket(2) : this.literal();
      case "]": return this.closeBracket();
      case "<": return this.angle();
      case "&": return this.entity();
      case "$": return this.dollars();
      case "\n": return this.newline();
      case "h": return this.bareAddress();
      default: {
        const start = this.at;
        while (this.at < this.text.length && !"\\`*_~[!]<&$\nh".includes(this.text[this.at])) this.at++;
        const run = this.text.slice(start, this.at);
        this.pending += this.text[this.at] === "\n" ? run.trimEnd() : run;
      }
    }
  }

  escape() {
    const next = this.text[this.at + 1];
    if (next === "(" && this.math("\\(", "\\)")) return;
    if (next === "[" && this.math("\\[", "\\]")) return;
    if (next === "\n") {
      this.push({ type: "break" });
      this.at += 2;
    } else if (next !== undefined && ASCII_PUNCTUATION.test(next)) {
      this.pending += next;
      this.at += 2;
    } else {
      this.literal();
    }
  }

  // TeX stays as it is written, whole: its underscores and stars mean nothing here.
  math(open, close) {
    if (this.without.has(close)) return false;
    const end = this.text.indexOf(close, this.at + open.length);
    if (end < 0) this.without.add(close);
    if (end < 0 || end - this.at > LONGEST_MATH) return false;
    this.push({ type: "math", text: this.text.slice(this.at + open.length, end).trim() });
    this.at = end + close.length;
    return true;
  }

  dollars() {
    if (this.text[this.at + 1] === "$") {
      if (!this.math("$$", "$$")) this.literal(2);
    } else {
      this.literal();
    }
  }

  code() {
    if (!this.backticks) {
      this.backticks = new Map();
      for (const run of this.text.matchAll(/`+/g)) {
        const length = run[0].length;
        if (!this.backticks.has(length)) this.backticks.set(length, { positions: [], next: 0 });
        this.backticks.get(length).positions.push(run.index);
      }
    }
    let length = 1;
    while (this.text[this.at + length] === "`") length++;
    const runs = this.backticks.get(length);
    while (runs && runs.next < runs.positions.length && runs.positions[runs.next] < this.at + length) runs.next++;
    if (!runs || runs.next === runs.positions.length) return this.literal(length);
    const end = runs.positions[runs.next];
    let text = this.text.slice(this.at + length, end).replaceAll("\n", " ");
    if (text.startsWith(" ") && text.endsWith(" ") && text.trim()) text = text.slice(1, -1);
    this.push({ type: "code", text });
    this.at = end + length;
  }

  delimiters() {
    const mark = this.text[this.at];
    let count = 1;
    while (this.text[this.at + count] === mark) count++;
    if (mark === "~" && count !== 2) return this.literal(count);
    const before = this.at > 0 ? codePointBefore(this.text, this.at) : " ";
    const after = this.at + count < this.text.length ? String.fromCodePoint(this.text.codePointAt(this.at + count)) : " ";
    const left = !SPACE.test(after) && (!PUNCTUATION.test(after) || SPACE.test(before) || PUNCTUATION.test(before));
    const right = !SPACE.test(before) && (!PUNCTUATION.test(before) || SPACE.test(after) || PUNCTUATION.test(after));
    const inWord = mark === "_";
    this.push({
      mark, count, length: count,
      opens: left && (!inWord || !right || PUNCTUATION.test(before)),
      closes: right && (!inWord || !left || PUNCTUATION.test(after)),
    });
    this.at += count;
  }

  openBracket(length) {
    this.push(this.text.substr(this.at, length));
    this.brackets.push(this.nodes.length - 1);
    if (this.brackets.length > MOST_OPEN) this.brackets.shift();
    this.at += length;
  }

  closeBracket() {
    const open = this.brackets.pop();
    const target = open === undefined ? null : this.target(this.at + 1);
    if (!target) return this.literal();
    this.flush();
    const children = this.nodes.splice(open + 1);
    const image = this.nodes.pop() === "![";
    this.nodes.push({ type: "link", href: target.href, children: resolve(children) });
    this.at = target.end;
    // A link holds no links. Images are shown as links, as nothing is loaded from elsewhere, and may be inside of one.
    if (!image) this.brackets = [];
  }

  // "(address "title")" at `from`: its end and a safe address; null where there is none.
  target(from) {
    if (this.text[from] !== "(") return null;
    const piece = this.text.slice(from, from + LONGEST_ADDRESS);
    const found = /^\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*\))*))(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/.exec(piece);
    const href = found && safeHref((found[1] ?? found[2]).replace(/\\([!-/:-@[-`{-~])/g, "$1"));
    return href ? { href, end: from + found[0].length } : null;
  }

  angle() {
    const piece = this.text.slice(this.at, this.at + LONGEST_ADDRESS);
    const found = /^<((?:https?:\/\/|mailto:)[^\s<>]+)>/i.exec(piece);
    const href = found && safeHref(found[1]);
    if (!href) return this.literal();
    this.push({ type: "link", href, children: [found[1]] });
    this.at += found[0].length;
  }

  bareAddress() {
    const before = this.at > 0 ? this.text[this.at - 1] : " ";
    const found = /[\s(*_~]/.test(before) && /^https?:\/\/[\w.-]+(?::\d+)?(?:[/?#][^\s<]*)?/.exec(this.text.slice(this.at, this.at + LONGEST_ADDRESS));
    if (!found) return this.literal();
    const address = withoutTrailing(found[0]);
    const href = safeHref(address);
    if (!href || address.length < 11) return this.literal();
    this.push({ type: "link", href, children: [address] });
    this.at += address.length;
  }

  entity() {
    const found = /^&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-z]{2,8}));/.exec(this.text.substr(this.at, 12));
    if (!found) return this.literal();
    const code = found[1] ? parseInt(found[1], 10) : found[2] ? parseInt(found[2], 16) : 0;
    const isScalar = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000);
    const character = found[3] ? ENTITIES[found[3]] : isScalar ? String.fromCodePoint(code) : "\ufffd";
    if (character === undefined) return this.literal();
    this.pending += character;
    this.at += found[0].length;
  }

  // Spaces before it are not in `pending`: the run that ended here left them out.
  newline() {
    if (this.at >= 2 && this.text.startsWith("  ", this.at - 2)) this.push({ type: "break" });
    else this.pending += "\n";
    this.at++;
    while (this.text[this.at] === " ") this.at++;
  }
}

function codePointBefore(text, at) {
  const low = text.charCodeAt(at - 1);
  return low >= 0xdc00 && low < 0xe000 && at > 1 ? text.slice(at - 2, at) : text[at - 1];
}

// An address in a sentence does not take the sentence's end with it.
function withoutTrailing(address) {
  let opened = 0;
  for (const c of address) opened += c === "(" ? 1 : c === ")" ? -1 : 0;
  let end = address.length;
  for (;;) {
    const last = address[end - 1];
    if (last === ")" && opened < 0) opened++;
    else if (!"?!.,:;*_~'\"".includes(last)) break;
    end--;
  }
  return address.slice(0, end);
}

// Pairs delimiters as CommonMark's appendix does ("process emphasis").
function resolve(nodes) {
  const out = [];
  const openers = []; // {delimiter, index in out}
  for (const node of nodes) {
    if (typeof node === "string" || node.mark === undefined) {
      out.push(node);
      continue;
    }
    if (node.closes) close(node, out, openers);
    if (node.count > 0) {
      out.push(node);
      if (node.opens) openers.push({ delimiter: node, index: out.length - 1 });
      if (openers.length > MOST_OPEN) openers.shift();
    }
  }
  return joined(out);
}

function close(closer, out, openers) {
  for (let i = openers.length - 1; i >= 0 && closer.count > 0;) {
    const { delimiter: opener, index } = openers[i];
    if (!matches(opener, closer)) {
      i--;
      continue;
    }
    const both = opener.count >= 2 && closer.count >= 2;
    const children = joined(out.splice(index + 1));
    openers.length = i + 1;
    opener.count -= both ? 2 : 1;
    closer.count -= both ? 2 : 1;
    if (closer.mark === "~") opener.count = closer.count = 0;
    if (opener.count === 0) {
      out.pop();
      openers.pop();
      i--;
    }
    out.push({ type: closer.mark === "~" ? "del" : both ? "strong" : "em", children });
  }
}

function matches(opener, closer) {
  if (opener.mark !== closer.mark) return false;
  if (!opener.closes && !closer.opens) return true;
  return (opener.length + closer.length) % 3 !== 0 || (opener.length % 3 === 0 && closer.length % 3 === 0);
}

// Delimiters that found no partner are text; neighbouring texts are one.
function joined(nodes) {
  const out = [];
  for (const node of nodes) {
    const piece = node.mark !== undefined ? node.mark.repeat(node.count) : node;
    if (typeof piece === "string" && typeof out[out.length - 1] === "string") out[out.length - 1] += piece;
    else out.push(piece);
  }
  return out;
}
