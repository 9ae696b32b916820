// The API key: for this tab, or for longer when the user wants that.

import { readItem, writeItem } from "./browser_storage.js";

const NAME = "mxmla.key";

/** @returns {string} "" where there is none */
export function loadKey() {
  return readItem("session", NAME) ?? readItem("local", NAME) ?? "";
}

/** @param {string} key  @param {boolean} keep  beyond this tab */
export function saveKey(key, keep) {
  writeItem("session", NAME, null);
  writeItem("local", NAME, null);
  writeItem(keep ? "local" : "session", NAME, key);
}
