// Block Markdown to a tree of plain objects: headings (#), paragraphs, fenced code, lists, task lists, quotes, rules,
// GitHub's tables, and TeX between $$ or \[ \]. HTML, indented code, underlined headings and link definitions are text.
// Lines are looked at a fixed number of times per level, and levels are bounded.
//
// A block is {type, source, ...}: heading {level, text}, paragraph {text}, code {language, text}, list {ordered, start,
// tight, items: [{task, blocks}]}, quote {blocks}, rule, table {align, head, rows}, math {text}. `text` is inline
// Markdown except in code and math. `source` is what the block was read from: equal sources are equal blocks.

const DEEPEST = 12;
const MOST_COLUMNS = 64;

/** @param {string} text  @returns {Array} blocks */
export function parseBlocks(text) {
  // A line's end does not begin another one.
  return readBlocks(text.replaceAll("\r\n", "\n").replace(/\n$/, "").split("\n"), 0);
}

function readBlocks(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      at++;
      continue;
    }
    const block = readBlock(lines, at, depth);
    block.source = lines.slice(at, block.end).join("\n");
    blocks.push(block);
    at = block.end;
  }
  return blocks;
}

// `end` of the block is the line behind it.
function readBlock(lines, at, depth) {
  const line = lines[at];
  const fence = fenceOf(line);
  if (fence) return readCode(lines, at, fence);
  if (mathClose(line)) return readMath(lines, at);
  const heading = headingOf(line);
  if (heading) return { type: "heading", ...heading, end: at + 1 };
  if (isRule(line)) return { type: "rule", end: at + 1 };
  if (depth < DEEPEST && /^ {0,3}>/.test(line)) return readQuote(lines, at, depth);
  if (depth < DEEPEST && markerOf(line)) return readList(lines, at, depth);
  if (isTable(lines, at)) return readTable(lines, at);
  return readParagraph(lines, at, depth);
}

const isBlank = (line) => line.trim() === "";
const indentOf = (line) => line.length - line.trimStart().length;

function fenceOf(line) {
  const found = /^( {0,3})(`{3,}|~{3,})/.exec(line);
  if (!found) return null;
  const info = line.slice(found[0].length).trim();
  return found[2][0] === "`" && info.includes("`") ? null : { indent: found[1].length, mark: found[2], info };
}

function headingOf(line) {
  const found = /^ {0,3}(#{1,6})(?=[ \t]|$)/.exec(line);
  if (!found) return null;
  let text = line.slice(found[0].length).trim();
  let end = text.length;
  while (end > 0 && text[end - 1] === "#") end--;
  if (end === 0 || text[end - 1] === " ") text = text.slice(0, end).trim();
  return { level: found[1].length, text };
}

function isRule(line) {
  if (indentOf(line) > 3) return false;
  const marks = line.replaceAll(" ", "").replaceAll("\t", "");
  return marks.length >= 3 && "-*_".includes(marks[0]) && marks === marks[0].repeat(marks.length);
}

// A list item's beginning: the kind of list, and where the item's text begins.
function markerOf(line) {
  const found = /^( {0,3})([-+*]|(\d{1,9})([.)]))(?=[ \t]|$)/.exec(line);
  if (!found || isRule(line)) return null;
  const rest = line.slice(found[0].length);
  const spaces = indentOf(rest);
  const isEmpty = rest.trim() === "";
  return {
    kind: found[4] ?? found[2],
    ordered: found[3] !== undefined,
    start: found[3] === undefined ? 1 : parseInt(found[3], 10),
    isEmpty,
    width: found[0].length + (isEmpty || spaces > 4 ? 1 : spaces),
  };
}

// What ends a paragraph without a blank line.
function interrupts(lines, at, depth) {
  const line = lines[at];
  if (isBlank(line) || fenceOf(line) || headingOf(line) || isRule(line) || mathClose(line)) return true;
  if (depth < DEEPEST && /^ {0,3}>/.test(line)) return true;
  const marker = depth < DEEPEST ? markerOf(line) : null;
  if (marker && !marker.isEmpty && (!marker.ordered || marker.start === 1)) return true;
  return isTable(lines, at);
}

function readCode(lines, at, fence) {
  const text = [];
  let end = at + 1;
  for (; end < lines.length; end++) {
    const closing = fenceOf(lines[end]);
    if (closing && closing.info === "" && closing.mark[0] === fence.mark[0] && closing.mark.length >= fence.mark.length) break;
    text.push(lines[end].slice(Math.min(fence.indent, indentOf(lines[end]))));
  }
  return { type: "code", language: fence.info.split(/\s/)[0].slice(0, 40), text: text.join("\n"), end: Math.min(end + 1, lines.length) };
}

// The string that ends TeX which begins with this line.
function mathClose(line) {
  const start = line.trimStart();
  if (start.startsWith("\\[")) return "\\]";
  return start.startsWith("$$") ? "$$" : null;
}

function readMath(lines, at) {
  const close = mathClose(lines[at]);
  const text = [];
  let line = lines[at].trimStart().slice(2);
  let end = at + 1;
  for (;;) {
    const closing = line.indexOf(close);
    text.push(closing < 0 ? line : line.slice(0, closing));
    if (closing >= 0 && line.slice(closing + 2).trim() !== "") return readParagraph(lines, at, DEEPEST);
    if (closing >= 0 || end === lines.length) break;
    line = lines[end++];
  }
  return { type: "math", text: text.join("\n").trim(), end };
}

function readQuote(lines, at, depth) {
  const inner = [];
  let end = at;
  for (; end < lines.length; end++) {
    const found = /^ {0,3}> ?/.exec(lines[end]);
    if (found) inner.push(lines[end].slice(found[0].length));
    // A paragraph's next line may lack its mark.
    else if (continues(lines, end, inner, depth)) inner.push(lines[end]);
    else break;
  }
  return { type: "quote", blocks: readBlocks(inner, depth + 1), end };
}

// Whether the line goes on with the paragraph that the lines before it, without their marks, end in.
function continues(lines, at, inner, depth) {
  const last = inner[inner.length - 1];
  return last !== undefined && !isBlank(last) && !interrupts(lines, at, depth) && !markerOf(lines[at]) && !fenceOf(last) && !headingOf(last) && !isRule(last);
}

function readList(lines, at, depth) {
  const first = markerOf(lines[at]);
  const items = [];
  let end = at;
  let tight = true;
  while (end < lines.length) {
    const marker = markerOf(lines[end]);
    if (!marker || marker.kind !== first.kind) break;
    const item = readItem(lines, end, marker, depth);
    end = item.end;
    items.push({ task: item.task, blocks: item.blocks });
    tight &&= !item.loose;
    const next = markerOf(lines[end] ?? "");
    if (item.blanks && next && next.kind === first.kind) tight = false;
  }
  while (isBlank(lines[end - 1]) && end > at + 1) end--;
  return { type: "list", ordered: first.ordered, start: first.start, tight, items, end };
}

function readItem(lines, at, marker, depth) {
  const inner = [lines[at].slice(marker.width)];
  let fence = fenceOf(inner[0]);
  let end = at + 1;
  let behind = end; // behind the last line that is not blank
  for (; end < lines.length; end++) {
    const line = lines[end];
    if (isBlank(line)) {
      if (inner.length === 1 && isBlank(inner[0])) break; // an empty item does not begin with a blank line
      inner.push("");
      continue;
    }
    if (indentOf(line) >= marker.width) {
      inner.push(line.slice(marker.width));
    } else if (!fence && continues(lines, end, inner, depth)) {
      inner.push(line.trimStart());
    } else {
      break;
    }
    const mark = fenceOf(inner[inner.length - 1]);
    if (mark) fence = fence ? null : mark;
    behind = end + 1;
  }
  inner.length -= end - behind;
  const task = /^\[([ xX])\] /.exec(inner[0]);
  if (task) inner[0] = inner[0].slice(4);
  const blocks = readBlocks(inner, depth + 1);
  return { task: task ? task[1] !== " " : null, blocks, loose: hasBlankBetween(inner, blocks), blanks: end > behind, end };
}

// Whether a blank line parts two of the blocks.
function hasBlankBetween(lines, blocks) {
  let used = 0;
  for (const block of blocks) used += block.source.split("\n").length;
  while (lines.length > 0 && isBlank(lines[0])) lines = lines.slice(1);
  return blocks.length > 1 && lines.length > used;
}

function cellsOf(line) {
  const cells = [];
  let cell = "";
  const text = line.trim();
  for (let i = text[0] === "|" ? 1 : 0; i < text.length; i++) {
    if (text[i] === "\\" && text[i + 1] === "|") {
      cell += "|";
      i++;
    } else if (text[i] === "|") {
      cells.push(cell.trim());
      cell = "";
      if (i === text.length - 1) return cells;
    } else {
      cell += text[i];
    }
  }
  cells.push(cell.trim());
  return cells;
}

function isTable(lines, at) {
  const below = lines[at + 1];
  if (below === undefined || below.length > 2000 || !lines[at].includes("|") || !below.includes("-")) return false;
  const marks = cellsOf(below);
  return marks.length <= MOST_COLUMNS && marks.every((mark) => /^:?-+:?$/.test(mark)) && cellsOf(lines[at]).length === marks.length;
}

function readTable(lines, at) {
  const head = cellsOf(lines[at]);
  const align = cellsOf(lines[at + 1]).map((mark) => (mark.endsWith(":") ? (mark.startsWith(":") ? "center" : "right") : null));
  const rows = [];
  let end = at + 2;
  for (; end < lines.length && !interrupts(lines, end, 0); end++) {
    const cells = cellsOf(lines[end]);
    rows.push(head.map((_, column) => cells[column] ?? ""));
  }
  return { type: "table", align, head, rows, end };
}

function readParagraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && !interrupts(lines, end, depth)) end++;
  const text = lines.slice(at, end).map((line) => line.trimStart()).join("\n");
  return { type: "paragraph", text: text.trimEnd(), end };
}
