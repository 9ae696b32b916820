// The page: puts its parts together.

import { Api } from "./api.js";
import { readItem, writeItem } from "./browser_storage.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { ConversationList } from "./conversation_list.js";
import { openStore } from "./conversation_store.js";
import { askForKey, editSettings } from "./dialogs.js";
import { byId } from "./dom.js";
import { ScrollFollower } from "./scroll_follower.js";
import { ServerState } from "./server_state.js";
import { bindShortcuts, listShortcuts } from "./shortcuts.js";
import { StatusView } from "./status.js";
import { bindTheme } from "./theme.js";

const LAST = "mxmla.conversation"; // what a reload shows again, in this tab

function bindDrawer() {
  const sidebar = byId("sidebar");
  const set = (isOpen) => {
    sidebar.classList.toggle("open", isOpen);
    byId("scrim").hidden = !isOpen;
    byId("menu").setAttribute("aria-expanded", String(isOpen));
    byId(isOpen ? "new-conversation" : "menu").focus();
  };
  byId("menu").addEventListener("click", () => set(!sidebar.classList.contains("open")));
  byId("scrim").addEventListener("click", () => set(false));
  const isOpen = () => sidebar.classList.contains("open");
  return { isOpen, close: () => isOpen() && set(false) };
}

function bindViews(status) {
  const show = () => {
    const isStatus = location.hash === "#status";
    byId("chat").hidden = isStatus;
    byId("status").hidden = !isStatus;
    byId(isStatus ? "view-status" : "view-chat").setAttribute("aria-current", "page");
    byId(isStatus ? "view-chat" : "view-status").removeAttribute("aria-current");
    status.show(isStatus);
  };
  window.addEventListener("hashchange", show);
  show();
}

async function main() {
  bindTheme(byId("theme"));
  const api = new Api(askForKey);
  const store = await openStore();
  const server = new ServerState(api, () => {
    if (chat.conversation.messages.length === 0) chat.draw();
  });
  const drawer = bindDrawer();
  const chat = new Chat({
    api, store, server, messages: byId("messages"),
    follow: new ScrollFollower(byId("scroller"), byId("to-latest")),
    onChange: () => {},
    onUnsaved: (error) => {
      byId("storage-note").textContent = `Not kept: ${error.message}`;
      byId("storage-note").hidden = false;
    },
  });
  const composer = new Composer(chat);
  const focus = () => {
    location.hash = "#chat";
    byId("message").focus();
  };
  const list = new ConversationList(chat, store, () => {
    drawer.close();
    focus();
  });
  chat.onChange = () => {
    writeItem("session", LAST, chat.conversation.id);
    composer.update();
    list.update();
    byId("hint").textContent = chat.isRunning ? "Esc stops." : "";
  };
  bindViews(new StatusView(api, server));
  byId("open-settings").addEventListener("click", editSettings);
  byId("open-shortcuts").addEventListener("click", listShortcuts);
  bindShortcuts({
    stop: () => (drawer.isOpen() ? drawer.close() : chat.stop()),
    focus,
    begin: () => list.begin(),
    regenerate: () => [...document.querySelectorAll(".regenerate")].at(-1)?.click(),
    settings: editSettings,
    otherView: () => (location.hash = location.hash === "#status" ? "#chat" : "#status"),
  });
  const last = readItem("session", LAST);
  const known = last && (await store.get(last));
  if (known) await chat.open(known);
  await list.update();
  byId("message").focus();
  await server.watch();
}

main();
