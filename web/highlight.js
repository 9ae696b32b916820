// Colours for code: comments, strings, numbers and keywords of families of languages. One pass, no looking back.

import { el } from "./dom.js";

const LONGEST = 100_000; // longer code stays plain

const words = (text) => new Set(text.split(" "));
const C_WORDS = "auto bool break case catch char class const constexpr continue default delete do double else enum " +
  "explicit extern false float for friend goto if inline int long namespace new noexcept nullptr operator private " +
  "protected public return short signed sizeof static struct switch template this throw true try typedef typename " +
  "union unsigned using virtual void volatile while";
const JS_WORDS = "async await break case catch class const continue default delete do else export extends false finally " +
  "for from function if import in instanceof interface let new null of return static super switch this throw true try " +
  "type typeof undefined var void while yield";
const PYTHON_WORDS = "and as assert async await break class continue def del elif else except False finally for from " +
  "global if import in is lambda None nonlocal not or pass raise return True try while with yield match case";
const RUST_GO_WORDS = "as async await break chan const continue crate defer dyn else enum extern fallthrough false fn for " +
  "func go if impl import in interface let loop map match mod move mut nil package pub range return self Self select " +
  "static struct super switch trait true type unsafe use var where while";
const SHELL_WORDS = "if then else elif fi for in do done while until case esac function return export local set echo exit";
const SQL_WORDS = "select from where group by order having limit insert into values update set delete create table index " +
  "join left right inner outer on as and or not null primary key distinct union all case when then else end";

const SLASHES = String.raw`\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)`;
const HASH = String.raw`#[^\n]*`;
const QUOTES = String.raw`"(?:[^"\\\n]|\\[^])*"?|'(?:[^'\\\n]|\\[^])*'?`;

const FAMILIES = [
  { names: "c cc cpp c++ cxx h hpp cuda cu java cs csharp kotlin swift", comment: SLASHES, string: QUOTES, words: C_WORDS },
  { names: "js javascript mjs jsx ts tsx typescript", comment: SLASHES, string: QUOTES + "|`(?:[^`\\\\]|\\\\[^])*`?", words: JS_WORDS },
  { names: "rust rs go golang", comment: SLASHES, string: String.raw`"(?:[^"\\]|\\[^])*"?|'(?:[^'\\\n]|\\[^])'`, words: RUST_GO_WORDS },
  { names: "python py", comment: HASH, string: String.raw`"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|` + QUOTES, words: PYTHON_WORDS },
  { names: "sh bash shell zsh console make makefile cmake dockerfile toml yaml yml ini ruby rb", comment: HASH, string: QUOTES, words: SHELL_WORDS },
  { names: "sql", comment: String.raw`--[^\n]*|\/\*[^]*?(?:\*\/|$)`, string: QUOTES, words: SQL_WORDS, anyCase: true },
  { names: "json jsonl", comment: SLASHES, string: QUOTES, words: "true false null" },
];

const BY_NAME = new Map(FAMILIES.flatMap((family) => family.names.split(" ").map((name) => [name, family])));

function patternOf(family) {
  // Compiled when first needed. A word swallows its digits, so that a number begins none.
  family.pattern ??= new RegExp(`(${family.comment})|(${family.string})|([A-Za-z_$][\\w$]*)|(\\d[\\w.]*)`, "g");
  family.set ??= words(family.words);
  return family.pattern;
}

/** @param {string} code  @param {string} language  @returns {Array<Node|string>} */
export function highlighted(code, language) {
  const family = BY_NAME.get(language.toLowerCase());
  if (!family || code.length > LONGEST) return [code];
  const nodes = [];
  let at = 0;
  for (const found of code.matchAll(patternOf(family))) {
    const [text, comment, string, word, number] = found;
    const isKeyword = word !== undefined && family.set.has(family.anyCase ? word.toLowerCase() : word);
    const kind = comment ? "comment" : string ? "string" : number ? "number" : isKeyword ? "keyword" : null;
    if (!kind) continue;
    if (found.index > at) nodes.push(code.slice(at, found.index));
    nodes.push(el("span", { class: kind }, text));
    at = found.index + text.length;
  }
  if (at < code.length) nodes.push(code.slice(at));
  return nodes;
}
