// A message as the page shows it.

import { describe, isWhole } from "./answer.js";
import { copyButton } from "./copy.js";
import { el } from "./dom.js";
import { MarkdownView } from "./markdown_dom.js";
import { splitThinking } from "./thinking.js";

/** What a message's buttons do. @typedef {{regenerate: () => void, resend: (text: string) => void}} Actions */

/** The user's message: its text as it was typed, and a box to edit it in. */
export class UserView {
  /** @param {Message} message  @param {Actions} actions */
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.body = el("div");
    this.element = el("article", { class: "message user" }, el("h2", {}, "You"), this.body);
    this.show();
  }

  show() {
    this.body.replaceChildren(
      el("div", { class: "text" }, this.message.content),
      el("div", { class: "foot" },
        el("button", { type: "button", class: "quiet edit-button", onclick: () => this.edit() }, "Edit"),
        copyButton("Copy your message", () => this.message.content)));
  }

  edit() {
    const box = el("textarea", { class: "edit", "aria-label": "Edit your message" });
    box.value = this.message.content;
    const cancel = () => {
      this.show();
      this.body.querySelector(".edit-button").focus();
    };
    const send = () => box.value.trim() !== "" && this.actions.resend(box.value);
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        cancel();
      }
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
    });
    this.body.replaceChildren(box,
      el("div", { class: "buttons" },
        el("button", { type: "button", class: "primary resend", onclick: send }, "Send"),
        " ",
        el("button", { type: "button", class: "quiet", onclick: cancel }, "Cancel")));
    box.style.height = `${Math.min(box.scrollHeight + 4, 400)}px`;
    box.focus();
  }
}

/** The model's answer: thinking folded, Markdown, tool calls, figures. */
export class AnswerView {
  /** @param {Message} message  @param {Actions} actions */
  constructor(message, actions, name) {
    this.message = message;
    this.thinkingText = new MarkdownView();
    this.thinkingTitle = el("summary");
    this.thinking = el("details", { class: "thinking" }, this.thinkingTitle, el("div", { class: "body" }, this.thinkingText.element));
    this.text = new MarkdownView();
    this.calls = el("div");
    this.waiting = el("span", { class: "waiting", "aria-hidden": "true" });
    this.failure = el("p", { class: "failure", role: "alert" });
    this.figures = el("span", { class: "figures" });
    this.copy = copyButton("Copy answer", () => splitThinking(this.message.content).answer);
    this.foot = el("div", { class: "foot" }, this.copy,
      el("button", { type: "button", class: "quiet regenerate", onclick: actions.regenerate }, "Regenerate"),
      this.figures);
    this.element = el("article", { class: "message answer" }, el("h2", {}, name),
      this.thinking, this.text.element, this.calls, this.waiting, this.failure, this.foot);
  }

  /** @param {boolean} isRunning  more is to come */
  update(isRunning) {
    const { message } = this;
    const split = splitThinking(message.content);
    const thought = message.reasoning || split.thinking;
    const isThinking = isRunning && split.answer === "" && (thought !== "" || split.isOpen);
    this.thinking.hidden = thought === "";
    if (thought !== "") this.thinkingText.update(thought);
    setText(this.thinkingTitle, isThinking ? "Thinking …" : "Thinking");
    this.text.update(split.answer);
    this.showCalls(isRunning);
    this.waiting.hidden = !isRunning;
    this.failure.hidden = !message.failure;
    setText(this.failure, message.failure ?? "");
    this.foot.hidden = isRunning;
    this.copy.hidden = split.answer === "";
    setText(this.figures, describe(message));
    this.element.setAttribute("aria-busy", String(isRunning));
  }

  showCalls(isRunning) {
    const calls = this.message.toolCalls ?? [];
    calls.forEach((call, i) => {
      if (i === this.calls.children.length) {
        this.calls.append(el("details", { class: "tool-call", open: true },
          el("summary", {}, el("span"), el("code", { class: "name" })), el("pre", { tabindex: 0 })));
      }
      const box = this.calls.children[i];
      const [summary, shown] = box.children;
      const isUnfinished = !isWhole(call) && (call.broken || !isRunning);
      if (isUnfinished && !box.classList.contains("unfinished")) box.open = false; // once: its reader may open it
      box.classList.toggle("unfinished", isUnfinished);
      setText(summary.querySelector("span"), isUnfinished ? "Unfinished tool call " : "Tool call ");
      setText(summary.querySelector("code"), call.name);
      setText(shown, readable(call.arguments));
    });
  }
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function readable(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // not whole yet, or not JSON: as it came
  }
}
