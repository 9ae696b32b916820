// Copying, with a word that it was done.

import { el } from "./dom.js";
import { announce } from "./announce.js";

async function write(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Browsers keep the clipboard from pages that came over plain HTTP from another machine.
  const area = el("textarea", { class: "hidden-label" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser does not let this page copy");
}

/**
 * @param {string} label  for those who do not see the button
 * @param {() => string} text
 */
export function copyButton(label, text) {
  const button = el("button", { type: "button", class: "quiet copy", "aria-label": label, onclick: async () => {
    let said = "Copied";
    try {
      await write(text());
    } catch (error) {
      said = `Not copied: ${error.message}`;
    }
    button.textContent = said;
    announce(said);
    setTimeout(() => (button.textContent = "Copy"), 1600);
  } }, "Copy");
  return button;
}
