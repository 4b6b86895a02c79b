// Numbers as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(count) {
  const size = Math.abs(count);
  const power = size < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(size) / 10));
  const value = size / 1024 ** power;
  const digits = power === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${count < 0 ? "−" : ""}${value.toFixed(digits)} ${UNITS[power]}`;
}

export const rate = (count) => `${bytes(count)}/s`;

export function share(part, whole) {
  if (whole <= 0) return "–";
  const percent = (100 * part) / whole;
  // 99.96 % is not all of it.
  const text = percent > 99 && percent < 100 ? (Math.floor(percent * 10) / 10).toFixed(1) : percent.toFixed(0);
  return `${text} %`;
}

export function duration(seconds) {
  const steps = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const place = Math.max(0, steps.findIndex(([length]) => seconds >= length));
  const [length, unit] = seconds < 1 ? steps[3] : steps[place];
  const whole = Math.floor(seconds / length);
  const next = steps[place + 1];
  const rest = next === undefined || whole >= 10 ? 0 : Math.floor((seconds % length) / next[0]);
  return rest > 0 && seconds >= 60 ? `${whole} ${unit} ${rest} ${next[1]}` : `${whole} ${unit}`;
}

export function ago(instant, now = Date.now()) {
  const seconds = (now - Date.parse(instant)) / 1000;
  return seconds < 2 ? "now" : `${duration(seconds)} ago`;
}

// A digest's algorithm is the same everywhere, and its end tells nobody anything.
export function shortKey(key) {
  return key.replace(/^(sha256|sha512|url):([0-9a-f]{12})[0-9a-f]+/, (_, kind, start) => `${kind}:${start}…`);
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
