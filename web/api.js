// The server's HTTP interface: keys, errors, streams.

import { readEvents } from "./sse.js";
import { loadKey } from "./key.js";

/** What the server refused, or that it did not answer. `message` is for people. */
export class ApiFailure extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    this.status = status; // 0: no answer
    this.code = code;
  }
}

const addressOf = (path) => new URL(path, document.baseURI);

async function failureOf(response) {
  const text = await response.text().catch(() => "");
  let error = null;
  try {
    error = JSON.parse(text).error;
  } catch {
    // not the server's form: something between the server and here has answered
  }
  const message = error?.message ?? (text.trim().slice(0, 300) || response.statusText || "no reason given");
  return new ApiFailure(`${response.status}: ${message}`, { status: response.status, code: error?.code });
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => reject(signal.reason));
  });
}

export class Api {
  /** @param {(refused: boolean) => Promise<boolean>} askForKey  true when the user gave one */
  constructor(askForKey) {
    this.askForKey = askForKey;
  }

  // The key is asked for when the server wants one, as often as the user tries; a model that loads is waited for.
  async request(path, options = {}) {
    for (;;) {
      const key = loadKey();
      const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
      let response;
      try {
        response = await fetch(addressOf(path), { ...options, headers, cache: "no-store", credentials: "omit" });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new ApiFailure("The server does not answer. It may have ended, or the network is gone.");
      }
      if (response.ok) return response;
      if (response.status === 401 && (await this.askForKey(key !== ""))) continue;
      const failure = await failureOf(response);
      if (failure.code !== "model_loading") throw failure;
      await pause(1000, options.signal);
    }
  }

  /** @param {string} path  @returns {Promise<Object>} */
  async json(path) {
    return (await this.request(path)).json();
  }

  /** @param {string} path  @returns {Promise<string>} */
  async text(path) {
    return (await this.request(path)).text();
  }

  /** Whether the model is there: "ready", "loading", "failed" or "gone". */
  async health() {
    try {
      const response = await fetch(addressOf("health"), { cache: "no-store" });
      const { status } = await response.json();
      return status === "ok" ? "ready" : status;
    } catch {
      return "gone";
    }
  }

  /**
   * @param {string} path  @param {Object} body  @param {AbortSignal} signal
   * @yields {Object} the stream's events, to its end
   */
  async *stream(path, body, signal) {
    const response = await this.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
    try {
      for await (const data of readEvents(response.body)) {
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new ApiFailure(event.error.message, { code: event.error.code });
        yield event;
      }
    } catch (error) {
      if (error.name === "AbortError" || error instanceof ApiFailure) throw error;
      if (error instanceof SyntaxError) throw new ApiFailure("The server sent an event that is no JSON.");
    }
    throw new ApiFailure("The answer broke off: the connection to the server was lost.");
  }
}
