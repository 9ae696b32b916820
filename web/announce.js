// Words for screen readers, said when they have nothing else to say.

import { byId } from "./dom.js";

/** @param {string} text */
export function announce(text) {
  const region = byId("announcer");
  if (region) region.textContent = text;
}
