// Short strings that the browser keeps; in this tab's memory where it keeps nothing (a private window, a policy).

const memory = new Map();

/** @param {"local"|"session"} kind  @returns {?string} */
export function readItem(kind, name) {
  try {
    return window[`${kind}Storage`].getItem(name) ?? memory.get(kind + name) ?? null;
  } catch {
    return memory.get(kind + name) ?? null;
  }
}

/** @param {?string} value  null removes it */
export function writeItem(kind, name, value) {
  memory.delete(kind + name);
  try {
    if (value === null) window[`${kind}Storage`].removeItem(name);
    else window[`${kind}Storage`].setItem(name, value);
  } catch {
    if (value !== null) memory.set(kind + name, value);
  }
}
