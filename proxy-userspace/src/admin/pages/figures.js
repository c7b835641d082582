// Figures as people read them.

/** Events a second: 0, 0.4, 12.5, 999, 12.3k, 4.5M; a dash where it isn't known. */
export function rate(perSecond) {
  if (perSecond == null) return "–";
  const [value, unit] = scaled(perSecond);
  return value + unit;
}

function scaled(perSecond) {
  const units = ["", "k", "M", "G", "T"];
  let value = perSecond;
  let unit = 0;
  while (value >= 999.5 && unit + 1 < units.length) {
    value /= 1000;
    unit += 1;
  }
  return [value.toFixed(value >= 0.05 && value < 99.95 ? 1 : 0), units[unit]];
}

/** Bytes a second as bits a second. */
export function bits(bytesPerSecond) {
  if (bytesPerSecond == null) return "–";
  const [value, unit] = scaled(bytesPerSecond * 8);
  return `${value} ${unit}bit/s`;
}

/** Seconds as 430 µs, 1.2 ms, 3.4 s. */
export function latency(seconds) {
  if (seconds == null) return "–";
  if (seconds === 0) return "0";
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

/** 1234567 as 1,234,567. */
export function count(number) {
  return number == null ? "–" : number.toLocaleString("en");
}

/** 1 change, 2 changes. */
export function counted(number, what) {
  return `${count(number)} ${what}${number === 1 ? "" : "s"}`;
}

/** The two greatest units: 3d 4h, 5m 6s. */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"], [Math.floor(whole / 60) % 60, "m"], [whole % 60, "s"]];
  const first = parts.findIndex(([number]) => number > 0);
  return parts.slice(first < 0 ? 3 : first).slice(0, 2).map(([number, unit]) => number + unit).join(" ");
}

/** A moment of today as 14:03:05, others with their date. */
export function moment(milliseconds) {
  const date = new Date(milliseconds);
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}
