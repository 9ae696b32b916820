// A conversation: sending, stopping, regenerating and editing. One answer runs at a time.

import { announce } from "./announce.js";
import { Stopwatch, addDelta, emptyAnswer, isWhole } from "./answer.js";
import { newConversation } from "./conversation_store.js";
import { confirmed } from "./dialogs.js";
import { el } from "./dom.js";
import { AnswerView, UserView } from "./message_view.js";
import { chatRequest, loadSettings, textRequest } from "./settings.js";
import { splitThinking } from "./thinking.js";

export class Chat {
  /**
   * @param {Object} parts  api, store, server (ServerState), messages (an element), follow:
   *   ScrollFollower, onChange: called when the conversation or whether it runs has changed, onUnsaved: with the error
   *   that kept a conversation from being kept
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.conversation = newConversation();
    this.abort = null;
    this.draw();
  }

  get isRunning() {
    return this.abort !== null;
  }

  /** Shows another conversation; a running answer is stopped. */
  async open(conversation) {
    await this.stop();
    this.conversation = conversation;
    this.draw();
    this.follow.toEnd();
    this.onChange();
  }

  draw() {
    const { messages } = this.conversation;
    this.messages.replaceChildren(...messages.map((message, i) => this.view(message, i).element));
    if (messages.length === 0) this.messages.append(welcome(this.server));
  }

  view(message, index) {
    if (message.role === "user") return new UserView(message, { resend: (text) => this.resend(index, text) });
    const view = new AnswerView(message, { regenerate: () => this.regenerate(index) }, this.server.name);
    view.update(false);
    return view;
  }

  /** @param {string} text  the user's next message */
  async send(text) {
    if (this.isRunning) return;
    this.conversation.messages.push({ role: "user", content: text });
    this.conversation.title ||= text.trim().split("\n")[0].slice(0, 80);
    await this.answer();
  }

  /** The message at `index` becomes `text`; what followed it is answered anew. */
  async resend(index, text) {
    if (!(await this.mayCut(index + 2))) return;
    await this.stop();
    this.conversation.messages.length = index;
    await this.send(text);
  }

  /** Asks again for the answer at `index`. */
  async regenerate(index) {
    if (!(await this.mayCut(index + 1))) return;
    await this.stop();
    this.conversation.messages.length = index;
    await this.answer();
  }

  // Whether the messages from `index` on, where there are any, may go.
  async mayCut(index) {
    const count = this.conversation.messages.length - index;
    return count <= 0 || confirmed("Go back to this place?", `The ${count} messages that follow are deleted.`, "Go back");
  }

  /** Ends the running answer, which keeps what it has. */
  async stop() {
    this.abort?.abort();
    await this.finished;
  }

  answer() {
    this.finished = this.runAnswer();
    return this.finished;
  }

  async runAnswer() {
    const { conversation } = this;
    const message = emptyAnswer();
    const asked = [...conversation.messages];
    conversation.messages.push(message);
    this.abort = new AbortController();
    this.draw();
    const view = this.view(message, asked.length);
    this.messages.lastElementChild.replaceWith(view.element);
    view.update(true);
    this.follow.toEnd();
    this.onChange();
    announce("The answer is being written.");
    await this.save(conversation);
    this.onChange(); // it is among those that are kept
    const drawing = new FrameDrawing(() => {
      view.update(true);
      this.follow.moved();
    });
    try {
      await this.receive(asked, message, drawing);
    } catch (error) {
      if (error.name === "AbortError") message.finish = "stopped";
      else message.failure = error.message;
      if (message.failure) this.server.watch();
    }
    drawing.stop();
    this.abort = null;
    view.update(false);
    this.follow.moved();
    announce(message.failure ?? `Answer: ${splitThinking(message.content).answer.slice(0, 600)}`);
    await this.save(conversation);
    this.onChange();
  }

  async receive(asked, message, drawing) {
    await this.server.requireInfo();
    const settings = loadSettings();
    const model = this.server.name;
    const watch = new Stopwatch();
    const [path, body] = this.server.hasChat
      ? ["v1/chat/completions", chatRequest(model, asked.map(forApi).filter(Boolean), settings)]
      : ["v1/completions", textRequest(model, asked[asked.length - 1].content, settings)];
    try {
      for await (const event of this.api.stream(path, body, this.abort.signal)) {
        watch.see(event);
        for (const choice of event.choices ?? []) addDelta(message, choice);
        drawing.request();
      }
    } finally {
      message.figures = watch.figures();
    }
  }

  async save(conversation) {
    conversation.updated = Date.now();
    try {
      await this.store.put(conversation);
    } catch (error) {
      announce(`The conversation could not be kept: ${error.message}`);
      this.onUnsaved(error);
    }
  }
}

// A message of the conversation as the API takes it; null for an answer that has nothing to say.
function forApi({ role, content, toolCalls }) {
  if (role === "user") return { role, content };
  const { answer } = splitThinking(content);
  const whole = (toolCalls ?? []).filter(isWhole); // one that was broken off is no call
  if (whole.length) {
    return { role, content: answer, tool_calls: whole.map((call) => ({ id: call.id, type: "function",
      function: { name: call.name, arguments: call.arguments } })) };
  }
  return answer === "" ? null : { role, content: answer };
}

// Draws at most once a frame, however fast tokens come.
class FrameDrawing {
  constructor(draw) {
    this.draw = draw;
    this.frame = 0;
  }

  request() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
  }
}

function welcome(server) {
  return el("div", { class: "welcome" },
    el("h1", {}, server.name),
    el("p", {}, server.hasChat
      ? "Conversations stay in this browser. The server keeps nothing of them."
      : "This model has no chat template: each message is a prompt of its own, which the model continues."));
}
