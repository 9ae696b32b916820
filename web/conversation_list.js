// The sidebar's conversations: opening, deleting, exporting.

import { byId, el } from "./dom.js";
import { confirmed } from "./dialogs.js";
import { newConversation } from "./conversation_store.js";

export class ConversationList {
  /** @param {Chat} chat  @param {Object} store  @param {() => void} onPick  after one was opened */
  constructor(chat, store, onPick) {
    Object.assign(this, { chat, store, onPick });
    this.list = byId("conversations");
    byId("new-conversation").addEventListener("click", () => this.begin());
    byId("export").addEventListener("click", () => this.export());
    byId("delete-all").addEventListener("click", () => this.removeAll());
    const note = byId("storage-note");
    note.hidden = store.isKept;
    if (!store.isKept) note.textContent = "This browser keeps nothing: conversations last as long as this tab.";
  }

  async begin() {
    await this.chat.open(newConversation());
    this.onPick();
  }

  async update() {
    const conversations = await this.store.all();
    this.list.replaceChildren(...conversations.map((conversation) => this.row(conversation)));
    byId("export").disabled = byId("delete-all").disabled = conversations.length === 0;
  }

  row(conversation) {
    const isCurrent = conversation.id === this.chat.conversation.id;
    const title = conversation.title || "Untitled";
    return el("li", { class: isCurrent ? "current" : null },
      el("button", { type: "button", class: "open", title, "aria-current": isCurrent ? "true" : null, onclick: () => this.pick(conversation.id) }, title),
      el("button", { type: "button", class: "icon remove", "aria-label": `Delete ${title}`, title: "Delete", onclick: () => this.remove(conversation) }, "×"));
  }

  async pick(id) {
    if (id !== this.chat.conversation.id) {
      await this.chat.stop();
      const conversation = await this.store.get(id);
      if (!conversation) return this.update(); // another tab has deleted it
      await this.chat.open(conversation);
    }
    this.onPick();
  }

  async remove({ id, title }) {
    if (!(await confirmed(`Delete “${title}”?`, "It is nowhere else.", "Delete"))) return;
    await this.chat.stop();
    await this.store.remove(id);
    if (id === this.chat.conversation.id) await this.chat.open(newConversation());
    await this.update();
  }

  async removeAll() {
    if (!(await confirmed("Delete all conversations?", "They are nowhere else. Export keeps a copy.", "Delete all"))) return;
    await this.chat.stop();
    await this.store.clear();
    await this.chat.open(newConversation());
    await this.update();
  }

  async export() {
    const text = JSON.stringify({ conversations: await this.store.all() }, null, 2);
    const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "mxmla-conversations.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}
