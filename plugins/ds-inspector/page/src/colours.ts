// Colours that carry meaning, for light and for dark.

import { ink, isDark } from "./canvas.ts";

type Triple = [number, number, number];

const RAMPS: Record<string, { light: Triple[]; dark: Triple[] }> = {
  time: {
    light: [[250, 249, 246], [253, 224, 180], [246, 168, 96], [222, 95, 42], [163, 42, 18]],
    dark: [[38, 39, 43], [84, 58, 36], [140, 82, 34], [206, 112, 40], [255, 158, 74]],
  },
  memory: {
    light: [[250, 249, 250], [226, 217, 240], [186, 165, 218], [136, 104, 188], [88, 52, 148]],
    dark: [[38, 39, 43], [58, 50, 84], [86, 68, 134], [124, 96, 190], [172, 144, 240]],
  },
  slower: {
    light: [[250, 249, 247], [249, 211, 202], [238, 150, 134], [214, 84, 70], [170, 30, 30]],
    dark: [[44, 45, 49], [92, 48, 46], [142, 58, 52], [196, 76, 64], [244, 116, 98]],
  },
  faster: {
    light: [[250, 249, 247], [205, 222, 245], [144, 183, 232], [80, 135, 208], [30, 84, 168]],
    dark: [[44, 45, 49], [42, 60, 92], [46, 82, 140], [62, 114, 196], [112, 164, 246]],
  },
};

/** A colour of a ramp at `share` from 0 to 1. */
export function ramp(name: "time" | "memory" | "slower" | "faster", share: number): string {
  const stops = RAMPS[name]![isDark() ? "dark" : "light"];
  const at = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const index = Math.min(stops.length - 2, Math.floor(at));
  const part = at - index;
  const mixed = stops[index]!.map((value, channel) =>
    Math.round(value + (stops[index + 1]![channel]! - value) * part),
  );
  return `rgb(${mixed.join(" ")})`;
}

/** Of a change, from -1 (all gone) over 0 to 1. */
export function diverging(share: number): string {
  return share >= 0 ? ramp("slower", share) : ramp("faster", -share);
}

/** Whether text on a colour should be light. */
export function lightText(colour: string): boolean {
  const parts = colour.startsWith("#")
    ? [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16))
    : (colour.match(/\d+(\.\d+)?/g)?.map(Number) ?? []);
  const [red = 0, green = 0, blue = 0] = parts;
  return 0.299 * red + 0.587 * green + 0.114 * blue < 138;
}

const DTYPES: [RegExp, string][] = [
  [/^(float64|double)/, "dtype-64"],
  [/^(float32|float$)/, "dtype-32"],
  [/^(bfloat16)/, "dtype-bf16"],
  [/^(float16|half)/, "dtype-16"],
  [/^float8/, "dtype-8"],
  [/^mixed$/, "dtype-mixed"],
  [/^(u?int|bool|q)/, "dtype-int"],
];

export function dtypeColour(dtype: string): string {
  const known = DTYPES.find(([pattern]) => pattern.test(dtype));
  return ink(known ? known[1] : "dtype-none");
}

export const KINDS = [
  "parameter",
  "buffer",
  "optimizer",
  "gradient",
  "input",
  "activation",
  "temporary",
];

export function kindColour(kind: string): string {
  return ink(KINDS.includes(kind) ? `kind-${kind}` : "kind-temporary");
}

/** A shade of a hue, the same for the same name. */
export function shade(hue: number, name: string): string {
  let hash = 2166136261;
  for (let index = 0; index < name.length; index += 1) {
    hash = Math.imul(hash ^ name.charCodeAt(index), 16777619);
  }
  const spread = ((hash >>> 8) % 1000) / 1000;
  const turn = hue + ((hash >>> 20) % 17) - 8;
  return isDark()
    ? hsl(turn, 30 + spread * 14, 30 + spread * 10)
    : hsl(turn, 52 + spread * 22, 76 + spread * 9);
}

/** As rgb, so that its lightness can be seen. */
function hsl(hue: number, saturation: number, lightness: number): string {
  const light = lightness / 100;
  const wide = (saturation / 100) * Math.min(light, 1 - light);
  const channel = (offset: number): number => {
    const at = (offset + (((hue % 360) + 360) % 360) / 30) % 12;
    return Math.round(255 * (light - wide * Math.max(-1, Math.min(at - 3, 9 - at, 1))));
  };
  return `rgb(${channel(0)} ${channel(8)} ${channel(4)})`;
}
