// Numbers, times and sizes as people read them.

const WHOLE = new Intl.NumberFormat("en-US");
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** @param {number} value */
export function count(value) {
  return WHOLE.format(value);
}

/** Seconds, with as many digits as matter. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.0995) return `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms`;
  if (value < 9.95) return `${value.toFixed(2)} s`;
  if (value < 99.5) return `${value.toFixed(1)} s`;
  if (value < 3599.5) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

/** A share from 0 to 1, in per cent. */
export function percent(share) {
  return `${(share * 100).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
}

/** A share from 0 to 1 for a style sheet. */
export function cssShare(share) {
  return `${(Math.min(1, Math.max(0, share)) * 100).toFixed(3)}%`;
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size.toFixed(unit > 2 ? 1 : 0)} ${UNITS[unit]}`;
}

/** When something was, from seconds since 1970: the time of today, else the day and the time. */
export function moment(created, now = Date.now() / 1000) {
  const time = new Date(created * 1000);
  const today = new Date(now * 1000);
  if (time.toDateString() === today.toDateString()) return time.toLocaleTimeString();
  const year = time.getFullYear() === today.getFullYear() ? undefined : "numeric";
  const format = { year, month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
  return time.toLocaleString([], format);
}

/** `1 token`, `2 tokens`. */
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}
