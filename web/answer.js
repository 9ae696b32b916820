// An answer on its way: the stream's events become a message, with its times.

/**
 * @typedef {{index: number, id: string, name: string, arguments: string, broken?: boolean}} ToolCall
 *   broken: something else followed before its arguments were whole
 *
 * A message as conversations keep it.
 * @typedef {Object} Message
 * @property {"user"|"assistant"} role
 * @property {string} content
 * @property {string} [reasoning]
 * @property {Array<ToolCall>} [toolCalls]
 * @property {string} [finish]  the API's finish_reason, or "stopped" by the user
 * @property {string} [failure]
 * @property {{promptTokens: ?number, cachedTokens: ?number, tokens: ?number, firstToken: number, seconds: number, rate: ?number}} [figures]
 */

/** @returns {Message} */
export function emptyAnswer() {
  return { role: "assistant", content: "", reasoning: "", toolCalls: [] };
}

/** Adds one choice's delta, of a chat or of a text. */
export function addDelta(message, choice) {
  const delta = choice.delta ?? { content: choice.text };
  if (delta.content) breakOff(message.toolCalls);
  message.content += delta.content ?? "";
  message.reasoning += delta.reasoning_content ?? delta.reasoning ?? "";
  for (const call of delta.tool_calls ?? []) {
    const known = callOf(message, call.index ?? 0);
    known.id ||= call.id ?? "";
    known.name += call.function?.name ?? "";
    known.arguments += call.function?.arguments ?? "";
  }
  if (choice.finish_reason) message.finish = choice.finish_reason;
}

function callOf(message, index) {
  let call = message.toolCalls.find((known) => known.index === index);
  if (!call) {
    breakOff(message.toolCalls);
    message.toolCalls.push((call = { index, id: "", name: "", arguments: "" }));
  }
  return call;
}

/** Whether nothing of a call's arguments is missing. */
export function isWhole(call) {
  try {
    JSON.parse(call.arguments);
    return true;
  } catch {
    return false;
  }
}

// What follows a call that the model has spoiled is the call's text.
function breakOff(calls) {
  const last = calls.at(-1);
  if (last && !isWhole(last)) last.broken = true;
}

/** Times of one answer, in seconds from its request. */
export class Stopwatch {
  constructor(now = () => performance.now() / 1000) {
    this.now = now;
    this.begin = now();
    this.first = null;
    this.last = null;
    this.usage = null;
  }

  /** @param {Object} event  of the stream */
  see(event) {
    if (event.usage) this.usage = event.usage;
    if (!event.choices?.length) return;
    this.last = this.now();
    this.first ??= this.last;
  }

  /** @returns {?Object} Message's figures; null before the first token */
  figures() {
    if (this.first === null) return null;
    const tokens = this.usage?.completion_tokens ?? null;
    const between = this.last - this.first;
    return {
      promptTokens: this.usage?.prompt_tokens ?? null,
      cachedTokens: this.usage?.prompt_tokens_details?.cached_tokens ?? null,
      tokens,
      firstToken: this.first - this.begin,
      seconds: this.last - this.begin,
      rate: tokens > 1 && between > 0 ? (tokens - 1) / between : null,
    };
  }
}

const shortTime = (seconds) => (seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : `${seconds.toFixed(1)} s`);
const shortRate = (rate) => (rate < 100 ? rate.toFixed(1) : Math.round(rate).toLocaleString("en"));

/** The line below an answer. @param {Message} message */
export function describe({ figures, finish }) {
  const parts = [];
  if (finish === "stopped") parts.push("stopped");
  if (finish === "length") parts.push("cut at the token limit");
  if (figures?.tokens !== null && figures?.tokens !== undefined) parts.push(`${figures.tokens} tokens`);
  if (figures?.rate) parts.push(`${shortRate(figures.rate)} tokens/s`);
  if (figures) parts.push(`first after ${shortTime(figures.firstToken)}`);
  if (figures?.cachedTokens) parts.push(`${figures.cachedTokens} of ${figures.promptTokens} prompt tokens cached`);
  return parts.join(" · ");
}
