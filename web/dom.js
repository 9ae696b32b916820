// Building of DOM nodes. Texts become text nodes: nothing here reads HTML.

/**
 * @param {string} tag
 * @param {Object} attributes  "onclick" and its like are listeners; true is an empty attribute, false and null are none
 * @param {...(Node|string|null|Array)} children
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  // One by one: a text may have more pieces than a call takes arguments.
  for (const child of children.flat()) if (child !== null) node.append(child);
  return node;
}

/** @param {string} tag  of SVG */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

/** The element of this id, which index.html has. */
export const byId = (id) => document.getElementById(id);
