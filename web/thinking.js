// Which part of a text is thinking, where the server does not tell by reasoning_content.

const OPEN = "<think>";
const CLOSE = "</think>";

/**
 * @param {string} text  so far
 * @returns {{thinking: string, answer: string, isOpen: boolean}} isOpen while the thinking has not ended
 */
export function splitThinking(text) {
  const close = text.indexOf(CLOSE);
  const start = text.trimStart();
  const begins = start.startsWith(OPEN);
  // Some templates write the opening tag into the prompt: then only the closing one is in the text.
  if (close >= 0 && (begins || !text.slice(0, close).includes(OPEN))) {
    const thinking = begins ? text.slice(text.indexOf(OPEN) + OPEN.length, close) : text.slice(0, close);
    return { thinking: thinking.trim(), answer: text.slice(close + CLOSE.length).trimStart(), isOpen: false };
  }
  if (begins) return { thinking: start.slice(OPEN.length).trim(), answer: "", isOpen: true };
  // The opening tag itself may be on its way.
  if (start !== "" && OPEN.startsWith(start)) return { thinking: "", answer: "", isOpen: true };
  return { thinking: "", answer: text, isOpen: false };
}
