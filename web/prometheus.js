// Prometheus' text format, and quantiles of its histograms.

/**
 * @param {string} text  of /metrics
 * @returns {Map<string, number>} values by name with labels as written, such as 'x_bucket{le="1"}'
 */
export function parseMetrics(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    if (line === "" || line[0] === "#") continue;
    const at = line.lastIndexOf(" ");
    values.set(line.slice(0, at), Number(line.slice(at + 1).replace("Inf", "Infinity")));
  }
  return values;
}

/**
 * The q-quantile of what a histogram has seen between two moments, linear inside of a bucket as Prometheus'
 * histogram_quantile; null where it has seen nothing.
 * @param {Map<string, number>} before  @param {Map<string, number>} after  @param {string} name
 */
export function quantileBetween(before, after, name, q) {
  const buckets = [];
  for (const [key, value] of after) {
    if (!key.startsWith(`${name}_bucket{`)) continue;
    const bound = /le="([^"]+)"/.exec(key)[1];
    buckets.push({ bound: bound === "+Inf" ? Infinity : Number(bound), count: value - (before.get(key) ?? 0) });
  }
  buckets.sort((a, b) => a.bound - b.bound);
  const total = buckets[buckets.length - 1]?.count ?? 0;
  if (total <= 0) return null;
  let lower = 0;
  let below = 0;
  for (const { bound, count } of buckets) {
    if (count >= q * total) {
      if (bound === Infinity) return lower;
      return lower + ((bound - lower) * (q * total - below)) / (count - below);
    }
    lower = bound;
    below = count;
  }
  return lower;
}
