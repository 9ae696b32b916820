// What the page knows of the server: whether it is there, and what it serves.

import { byId } from "./dom.js";

const TEXTS = { unknown: "", ready: "", loading: "loading the model", failed: "the engine has failed", gone: "not reachable" };

export class ServerState {
  /** @param {Api} api  @param {() => void} onChange */
  constructor(api, onChange) {
    this.api = api;
    this.onChange = onChange;
    this.state = "unknown";
    this.info = null; // of /server_info
    this.isWatching = false;
  }

  get name() {
    return this.info?.model ?? "mxmla";
  }

  get hasChat() {
    return this.info?.chat ?? true;
  }

  /** Asks until the model is there; to be called again when a request has failed. */
  async watch() {
    if (this.isWatching) return;
    this.isWatching = true;
    do {
      this.show(await this.api.health());
      if (this.state === "gone") this.info = null; // another server may come
      else if (!this.info) await this.readInfo();
    } while (await this.isToAskAgain());
    this.isWatching = false;
  }

  async isToAskAgain() {
    if (this.state === "ready" || this.state === "failed") return false;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return true;
  }

  async readInfo() {
    try {
      await this.requireInfo();
    } catch {
      // no key was given: the next request asks again
    }
  }

  /** Throws an ApiFailure where the server does not say what it serves. */
  async requireInfo() {
    if (this.info) return;
    this.info = await this.api.json("server_info");
    byId("model-name").textContent = this.name;
    document.title = `${this.name} · mxmla`;
    this.onChange();
  }

  show(state) {
    if (state === this.state) return;
    this.state = state;
    byId("state").dataset.state = state;
    byId("state-text").textContent = TEXTS[state] ?? state;
  }
}
