// Numbers with units, three digits each.

export const UNKNOWN = "–";

function scaled(value: number, base: number, units: string[]): string {
  let size = Math.abs(value);
  let unit = 0;
  while (size >= base * 0.9995 && unit < units.length - 1) {
    size /= base;
    unit += 1;
  }
  const digits = size >= 99.95 || (unit === 0 && Number.isInteger(value)) ? 0 : size >= 9.995 ? 1 : 2;
  return `${value < 0 ? "−" : ""}${size.toFixed(digits)} ${units[unit]}`;
}

export function time(seconds: number | null | undefined): string {
  if (seconds == null || !Number.isFinite(seconds)) return UNKNOWN;
  if (seconds === 0) return "0 s";
  if (Math.abs(seconds) >= 59.95) return `${(seconds / 60).toFixed(1)} min`;
  return Math.abs(seconds) >= 0.9995
    ? scaled(seconds, 1000, ["s"])
    : scaled(seconds * 1e9, 1000, ["ns", "µs", "ms", "s"]);
}

export function bytes(count: number | null | undefined): string {
  if (count == null || !Number.isFinite(count)) return UNKNOWN;
  return scaled(count, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}

export function amount(count: number | null | undefined, unit = ""): string {
  if (count == null || !Number.isFinite(count)) return UNKNOWN;
  const text = scaled(count, 1000, ["", "k", "M", "G", "T", "P"]);
  return unit ? `${text}${unit}` : text.replace(" ", "");
}

export function share(part: number | null | undefined): string {
  if (part == null || !Number.isFinite(part)) return UNKNOWN;
  const percent = part * 100;
  return `${percent.toFixed(Math.abs(percent) >= 9.95 ? 0 : Math.abs(percent) >= 0.095 ? 1 : 2)} %`;
}

export function signed(seconds: number | null | undefined): string {
  if (seconds == null || !Number.isFinite(seconds)) return UNKNOWN;
  return seconds > 0 ? `+${time(seconds)}` : time(seconds);
}

export function ratio(value: number | null | undefined): string {
  return value == null || !Number.isFinite(value) ? UNKNOWN : `${value.toFixed(2)}×`;
}

/** The end of a path, as `model.py:12`. */
export function place(source: string): string {
  return source.slice(source.lastIndexOf("/") + 1);
}
