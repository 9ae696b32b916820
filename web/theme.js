// Light, dark, or as the system: the switch goes round.

import { readItem, writeItem } from "./browser_storage.js";

const NAME = "mxmla.theme";
const ORDER = ["system", "light", "dark"];

const current = () => document.documentElement.dataset.theme ?? "system";

function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** @param {HTMLButtonElement} button */
export function bindTheme(button) {
  const stored = readItem("local", NAME);
  apply(ORDER.includes(stored) ? stored : "system");
  const label = () => {
    button.setAttribute("aria-label", `Theme: ${current()}`);
    button.title = `Theme: ${current()}`;
  };
  button.addEventListener("click", () => {
    const next = ORDER[(ORDER.indexOf(current()) + 1) % ORDER.length];
    apply(next);
    writeItem("local", NAME, next);
    label();
  });
  label();
}
