// Dialogs: settings, the API key, shortcuts, and questions. Each is made when it opens and gone when it closes; the
// browser keeps the focus inside and gives it back.

import { el } from "./dom.js";
import { saveKey } from "./key.js";
import { SETTINGS, loadSettings, saveSettings } from "./settings.js";

/**
 * @param {string} title
 * @param {Array<Node>} content
 * @param {Array<[string, string, boolean]>} buttons  [value, label, primary]; the value "" needs no valid form
 * @returns {Promise<{value: string, form: HTMLFormElement}>} value "" when it was dismissed
 */
function ask(title, content, buttons) {
  const heading = el("h2", { id: "dialog-title" }, title);
  const form = el("form", { method: "dialog" }, heading, ...content,
    el("div", { class: "buttons" }, ...buttons.map(([value, label, primary]) =>
      el("button", { value, type: "submit", formnovalidate: value === "", class: primary ? "primary" : "" }, label))));
  const dialog = el("dialog", { "aria-labelledby": "dialog-title" }, form);
  document.body.append(dialog);
  dialog.showModal();
  form.querySelector("[autofocus]")?.focus();
  // Enter in a field means the primary button, not the first one.
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
    event.preventDefault();
    form.querySelector("button.primary").click();
  });
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve({ value: dialog.returnValue, form });
    });
  });
}

/** @returns {Promise<boolean>} */
export async function confirmed(title, text, action) {
  const { value } = await ask(title, [el("p", {}, text)], [["", "Cancel", false], ["yes", action, true]]);
  return value === "yes";
}

let asking = null;

/**
 * Asks for the API key once, however many requests want one.
 * @param {boolean} refused  the server did not take the last one
 * @returns {Promise<boolean>} whether one was given
 */
export function askForKey(refused) {
  asking ??= askOnce(refused).finally(() => (asking = null));
  return asking;
}

async function askOnce(refused) {
  const input = el("input", { id: "api-key", type: "password", required: true, autofocus: true, autocomplete: "current-password" });
  const keep = el("input", { id: "keep-key", type: "checkbox" });
  const { value } = await ask("API key", [
    el("p", { class: refused ? "problem" : null }, refused ? "The server did not take this key." : "This server answers those who have one of its keys."),
    el("div", { class: "fields" }, el("div", { class: "field whole" }, el("label", { for: "api-key" }, "Key"), input)),
    el("div", { class: "check" }, keep, el("label", { for: "keep-key" }, "Keep it in this browser, not only in this tab")),
  ], [["", "Cancel", false], ["ok", "Use key", true]]);
  if (value !== "ok") return false;
  saveKey(input.value.trim(), keep.checked);
  return true;
}

function settingField({ name, label, kind, min, max, step, choices, help }, value) {
  const id = `setting-${name}`;
  const shared = { id, name, "aria-describedby": `${id}-help` };
  let input;
  if (kind === "text") input = el("textarea", { ...shared, rows: 3 });
  else if (kind === "choice") input = el("select", shared, ...choices.map(([key, text]) => el("option", { value: key }, text)));
  else input = el("input", { ...shared, type: "number", min, max, step: step === 1 ? 1 : "any", inputmode: "decimal", placeholder: "as the server" });
  input.value = value;
  return el("div", { class: kind === "text" ? "field whole" : "field" },
    el("label", { for: id }, label), input, el("small", { id: `${id}-help` }, help));
}

export async function editSettings() {
  const settings = loadSettings();
  const fields = SETTINGS.map((setting) => settingField(setting, settings[setting.name]));
  const { value, form } = await ask("Settings", [
    el("p", {}, "For the next answers, in this browser. What is empty is as the model's generation_config.json suggests."),
    el("div", { class: "fields" }, ...fields),
  ], [["", "Cancel", false], ["reset", "Reset", false], ["ok", "Save", true]]);
  if (value === "ok") saveSettings(Object.fromEntries(SETTINGS.map(({ name }) => [name, form.elements[name].value])));
  if (value === "reset") saveSettings({});
}

/** @param {Array<[string, string]>} shortcuts  [keys, what they do] */
export async function showShortcuts(shortcuts) {
  const rows = shortcuts.map(([keys, what]) =>
    el("tr", {}, el("td", {}, ...keys.split(" ").flatMap((key, i) => (i ? [" ", el("kbd", {}, key)] : [el("kbd", {}, key)]))), el("td", {}, what)));
  await ask("Keyboard", [el("table", {}, el("tbody", {}, ...rows))], [["", "Close", true]]);
}
