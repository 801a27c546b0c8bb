/** Numbers and times as people read them. What is not known is a dash and never `NaN`, `null` or `0`. */

export const UNKNOWN = "–";

type Maybe = number | null | undefined;

export function isKnown(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

export function number(value: Maybe, digits = 3): string {
  if (!isKnown(value)) return UNKNOWN;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return value.toLocaleString("en-GB");
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
  return String(Number(value.toPrecision(digits)));
}

export function percent(share: Maybe, digits = 2): string {
  return isKnown(share) ? `${Number((share * 100).toPrecision(digits + 1))}%` : UNKNOWN;
}

export function milliseconds(value: Maybe): string {
  if (!isKnown(value)) return UNKNOWN;
  return value >= 1000 ? `${number(value / 1000)} s` : `${number(value)} ms`;
}

const STEPS = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
  ["s", 1],
] as const;

/** Two units at most: `3 d 4 h`. */
export function duration(seconds: Maybe): string {
  if (!isKnown(seconds)) return UNKNOWN;
  let rest = Math.max(0, Math.round(seconds));
  if (rest === 0) return "0 s";
  const said: string[] = [];
  for (const [unit, size] of STEPS) {
    const count = Math.floor(rest / size);
    if (count > 0) said.push(`${count} ${unit}`);
    rest -= count * size;
    if (said.length === 2 || (said.length === 1 && count === 0)) break;
  }
  return said.join(" ");
}

export function instant(text: string | null | undefined): Date | undefined {
  if (!text) return undefined;
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? undefined : at;
}

/** In the zone of the browser. */
export function localTime(at: Date): string {
  return at.toLocaleString("en-GB", {
    day: "2-digit",
    month: "short",
    year: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
}

export function utcTime(at: Date): string {
  return `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

export function age(at: Date, now: number): string {
  const seconds = (now - at.getTime()) / 1000;
  return seconds >= 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}
