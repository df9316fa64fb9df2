// What all drawn views share: size, colours of the theme, text that fits.

import { useEffect, useRef, useState } from "preact/hooks";
import type { RefObject } from "preact";

export type Context = CanvasRenderingContext2D;

export interface Box {
  width: number;
  height: number;
}

/** The size of an element, kept up to date. */
export function useSize(element: RefObject<HTMLElement | null>): Box {
  const [size, setSize] = useState<Box>({ width: 0, height: 0 });
  useEffect(() => {
    const watched = element.current;
    if (!watched) return;
    const measure = () =>
      setSize({ width: watched.clientWidth, height: watched.clientHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(watched);
    return () => observer.disconnect();
  }, []);
  return size;
}

/** A context whose unit is a CSS pixel, cleared. */
export function prepare(canvas: HTMLCanvasElement, size: Box): Context | null {
  const density = devicePixelRatio || 1;
  const width = Math.max(1, Math.round(size.width * density));
  const height = Math.max(1, Math.round(size.height * density));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    canvas.style.width = `${size.width}px`;
    canvas.style.height = `${size.height}px`;
  }
  const context = canvas.getContext("2d");
  context?.setTransform(density, 0, 0, density, 0, 0);
  context?.clearRect(0, 0, size.width, size.height);
  return context;
}

/** Draw once in the next frame, however often it is asked for. */
export function usePainter(paint: () => void): () => void {
  const latest = useRef(paint);
  latest.current = paint;
  const asked = useRef(0);
  useEffect(() => () => cancelAnimationFrame(asked.current), []);
  return useRef(() => {
    cancelAnimationFrame(asked.current);
    asked.current = requestAnimationFrame(() => latest.current());
  }).current;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
let palette = new Map<string, string>();
dark.addEventListener("change", () => {
  palette = new Map();
  dispatchEvent(new Event("theme"));
});

export function isDark(): boolean {
  return dark.matches;
}

/** A colour of the style sheet, by the name of its variable. */
export function ink(name: string): string {
  let found = palette.get(name);
  if (found === undefined) {
    found = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    palette.set(name, found);
  }
  return found;
}

export const FONT = '12px system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif';
export const BOLD = `600 ${FONT}`;
export const SMALL = FONT.replace("12px", "11px");

const widths = new Map<string, number>();

function width(context: Context, text: string): number {
  const key = `${context.font}\0${text}`;
  let found = widths.get(key);
  if (found === undefined) {
    if (widths.size > 20_000) widths.clear();
    found = context.measureText(text).width;
    widths.set(key, found);
  }
  return found;
}

export function textWidth(context: Context, text: string): number {
  return width(context, text);
}

/** As much of a text as fits, with an ellipsis; the end is kept when `end` is set. */
export function fitted(context: Context, text: string, room: number, end = false): string {
  if (text.length > 300) text = end ? text.slice(-300) : text.slice(0, 300);
  if (width(context, text) <= room) return text;
  if (room < 12) return "";
  let low = 0;
  let high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    const part = end ? `…${text.slice(-middle)}` : `${text.slice(0, middle)}…`;
    if (context.measureText(part).width <= room) low = middle;
    else high = middle - 1;
  }
  if (!low) return "";
  return end ? `…${text.slice(-low)}` : `${text.slice(0, low)}…`;
}

/** Round values that divide a range into about `count` parts. */
export function ticks(from: number, to: number, count: number, base = 10): number[] {
  const rough = (to - from) / Math.max(1, count);
  if (!(rough > 0)) return [];
  let size: number;
  if (base === 2) {
    size = 2 ** Math.ceil(Math.log2(rough));
  } else {
    const power = 10 ** Math.floor(Math.log10(rough));
    size = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999) ?? rough;
  }
  const found: number[] = [];
  for (let at = Math.ceil(from / size) * size; at <= to + size * 1e-9; at += size) found.push(at);
  return found;
}

/** Repaint when the theme changes. */
export function useTheme(repaint: () => void): void {
  useEffect(() => {
    addEventListener("theme", repaint);
    return () => removeEventListener("theme", repaint);
  }, []);
}
