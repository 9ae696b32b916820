// Which addresses a model's text may link to.

const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/** @param {string} address  @returns {?string} the address where its scheme is http, https or mailto */
export function safeHref(address) {
  try {
    const url = new URL(address);
    return SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null; // relative, or no address
  }
}
