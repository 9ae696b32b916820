// How answers are asked for: a setting that is empty is left to the server, which takes what the model suggests.

import { readItem, writeItem } from "./browser_storage.js";

const NAME = "mxmla.settings";

/** kind "number": whole numbers where step is 1. `field` is the API's name. */
export const SETTINGS = [
  { name: "system", label: "System prompt", kind: "text", help: "Sent before every conversation." },
  { name: "temperature", label: "Temperature", kind: "number", min: 0, max: 1000, step: 0.05, help: "0 takes the likeliest token." },
  { name: "top_p", label: "Top p", kind: "number", min: 0, max: 1, step: 0.01, help: "Among tokens of this joint probability." },
  { name: "top_k", label: "Top k", kind: "number", min: 0, max: 2147483648, step: 1, help: "Among so many tokens; 0 is all." },
  { name: "min_p", label: "Min p", kind: "number", min: 0, max: 1, step: 0.01, help: "Relative to the likeliest." },
  { name: "max_tokens", label: "Max tokens", kind: "number", min: 1, max: 1099511627776, step: 1, help: "Of an answer." },
  { name: "seed", label: "Seed", kind: "number", min: 0, max: 9007199254740991, step: 1, help: "The same seed, the same answer." },
  { name: "thinking", label: "Thinking", kind: "choice", choices: [["", "as the template does"], ["on", "on"], ["off", "off"]],
    help: "For models whose template can switch it." },
];

/** @returns {Object} strings by name, all of SETTINGS */
export function loadSettings() {
  let stored = {};
  try {
    stored = JSON.parse(readItem("local", NAME) ?? "{}") ?? {};
  } catch {
    // written by nothing of ours
  }
  return Object.fromEntries(SETTINGS.map(({ name }) => [name, typeof stored[name] === "string" ? stored[name] : ""]));
}

/** @param {Object} settings  as loadSettings returns them */
export function saveSettings(settings) {
  writeItem("local", NAME, JSON.stringify(settings));
}

/** The API's sampling fields. */
export function samplingFields(settings) {
  const fields = {};
  for (const { name, kind } of SETTINGS) {
    if (kind === "number" && settings[name] !== "") fields[name] = Number(settings[name]);
  }
  return fields;
}

/** The request of a chat: its last message is the user's. */
export function chatRequest(model, messages, settings) {
  const system = settings.system.trim() === "" ? [] : [{ role: "system", content: settings.system }];
  // Templates know the switch by one of two names and ignore the other.
  const variables = settings.thinking === "" ? {} :
    { chat_template_kwargs: { thinking: settings.thinking === "on", enable_thinking: settings.thinking === "on" } };
  return { model, messages: [...system, ...messages], stream: true, stream_options: { include_usage: true },
    ...samplingFields(settings), ...variables };
}

/** The request of a text, for models without a chat template. */
export function textRequest(model, prompt, settings) {
  return { model, prompt, max_tokens: 256, stream: true, stream_options: { include_usage: true }, ...samplingFields(settings) };
}
