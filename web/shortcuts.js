// Keys that work everywhere on the page.

import { showShortcuts } from "./dialogs.js";

const SHORTCUTS = [
  ["Enter", "send"],
  ["Shift Enter", "a new line"],
  ["Esc", "stop the answer"],
  ["↑", "edit your last message, from an empty box"],
  ["Ctrl Enter", "send an edited message"],
  ["/", "to the message box"],
  ["Alt N", "a new conversation"],
  ["Alt R", "regenerate the last answer"],
  ["Alt ,", "settings"],
  ["Alt S", "chat or status"],
  ["?", "this list"],
];

/** @param {Object} actions  stop, focus, begin, regenerate, settings, otherView */
export function bindShortcuts(actions) {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.isComposing) return;
    const { key } = event;
    const isTyping = event.target.closest("input, textarea, select") !== null;
    const run = (action) => {
      event.preventDefault();
      action();
    };
    if (key === "Escape") return run(actions.stop);
    if (event.altKey && !event.ctrlKey && !event.metaKey) {
      // By its place on the keyboard: with Alt, some layouts make another character of it.
      if (event.code === "KeyN") return run(actions.begin);
      if (event.code === "KeyR") return run(actions.regenerate);
      if (event.code === "KeyS") return run(actions.otherView);
      if (event.code === "Comma") return run(actions.settings);
    }
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "/") return run(actions.focus);
    if (key === "?") return run(() => showShortcuts(SHORTCUTS));
  });
}

export const listShortcuts = () => showShortcuts(SHORTCUTS);
