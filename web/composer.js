// The box that messages are written in.

import { byId } from "./dom.js";

export class Composer {
  /** @param {Chat} chat */
  constructor(chat) {
    this.chat = chat;
    this.box = byId("message");
    this.send = byId("send");
    this.stop = byId("stop");
    this.box.addEventListener("input", () => this.fit());
    this.box.addEventListener("keydown", (event) => this.key(event));
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.stop.addEventListener("click", () => {
      chat.stop();
      this.box.focus();
    });
    this.update();
  }

  key(event) {
    // While a character is being composed, Enter belongs to the input method.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.submit();
    } else if (event.key === "ArrowUp" && this.box.value === "") {
      const edits = document.querySelectorAll(".message.user .edit-button");
      if (edits.length === 0) return;
      event.preventDefault();
      edits[edits.length - 1].click();
    }
  }

  submit() {
    const text = this.box.value;
    if (text.trim() === "" || this.chat.isRunning) return;
    this.box.value = "";
    this.fit();
    this.chat.send(text);
  }

  // As high as its text.
  fit() {
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight}px`;
    this.update();
  }

  update() {
    const hadFocus = document.activeElement === this.stop || document.activeElement === this.send;
    this.send.hidden = this.chat.isRunning;
    this.stop.hidden = !this.chat.isRunning;
    this.send.disabled = this.box.value.trim() === "";
    if (hadFocus) this.box.focus();
  }
}
