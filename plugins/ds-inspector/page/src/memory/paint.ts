// Drawing live bytes and lives on one axis of time.

import { FONT, SMALL, fitted, ink, textWidth, ticks, type Context } from "../canvas.ts";
import { kindColour } from "../colours.ts";
import { bytes, time } from "../format.ts";
import type { Memory } from "../contract.ts";
import type { Life } from "./model.ts";
import { before } from "./model.ts";

export const GUTTER = 76;
export const ROW = 18;
const FOOT = 20;
const HEAD = 30;

export interface Axis {
  from: number;
  to: number;
  width: number;
}

export function toX(axis: Axis, seconds: number): number {
  return GUTTER + ((seconds - axis.from) / (axis.to - axis.from || 1)) * (axis.width - GUTTER - 10);
}

export function toTime(axis: Axis, x: number): number {
  return axis.from + ((x - GUTTER) / (axis.width - GUTTER - 10)) * (axis.to - axis.from);
}

export function timeline(
  context: Context,
  memory: Memory,
  axis: Axis,
  height: number,
  top: number,
  steps: number[],
  look: { hover: number | null; drag: [number, number] | null; peak: number },
): void {
  const bottom = height - FOOT;
  const toY = (value: number): number => bottom - (value / (top || 1)) * (bottom - HEAD);
  context.font = SMALL;
  context.textBaseline = "middle";
  context.lineWidth = 1;
  for (const value of ticks(0, top, 4, 2)) {
    const y = Math.round(toY(value)) + 0.5;
    if (y < HEAD - 6) continue;
    context.strokeStyle = ink("line");
    line(context, GUTTER, y, axis.width - 10, y);
    context.fillStyle = ink("muted");
    context.textAlign = "right";
    context.fillText(bytes(value), GUTTER - 8, y);
  }
  stack(context, memory, axis, toY, bottom);
  allocator(context, memory, axis, toY);
  for (const start of steps) {
    const x = Math.round(toX(axis, start)) + 0.5;
    if (x < GUTTER || x > axis.width) continue;
    context.strokeStyle = ink("muted");
    context.setLineDash([2, 3]);
    line(context, x, HEAD, x, bottom);
    context.setLineDash([]);
  }
  footer(context, axis, bottom);
  memory.peaks.forEach((peak, index) => {
    const x = toX(axis, peak.time);
    if (x < GUTTER - 1 || x > axis.width - 9) return;
    const y = toY(peak.bytes);
    const strong = index === look.peak;
    context.fillStyle = strong ? ink("accent") : ink("ink");
    context.beginPath();
    context.moveTo(x, y - 2);
    context.lineTo(x - 4.5, y - 9);
    context.lineTo(x + 4.5, y - 9);
    context.fill();
    context.textAlign = "center";
    context.fillText(String(index + 1), x, y - 16);
  });
  if (look.drag) {
    const [left, right] = look.drag.map((seconds) => toX(axis, seconds)).sort((a, b) => a - b) as [number, number];
    context.fillStyle = ink("accent");
    context.globalAlpha = 0.16;
    context.fillRect(left, HEAD, right - left, bottom - HEAD);
    context.globalAlpha = 1;
  }
  if (look.hover !== null) {
    const x = Math.round(toX(axis, look.hover)) + 0.5;
    context.strokeStyle = ink("ink");
    line(context, x, HEAD, x, bottom);
  }
}

function stack(
  context: Context,
  memory: Memory,
  axis: Axis,
  toY: (value: number) => number,
  bottom: number,
): void {
  const first = Math.max(0, before(memory.time, axis.from));
  const last = Math.min(memory.time.length - 1, before(memory.time, axis.to));
  const base = new Float64Array(memory.time.length);
  context.save();
  context.beginPath();
  context.rect(GUTTER, 0, axis.width - GUTTER - 10, bottom + 1);
  context.clip();
  for (const kind of memory.kinds) {
    const values = memory.bytes[kind]!;
    context.beginPath();
    for (let index = first; index <= last; index += 1) {
      const x = toX(axis, memory.time[index]!);
      const next = index < last ? toX(axis, memory.time[index + 1]!) : axis.width;
      const y = toY(base[index]! + values[index]!);
      context.lineTo(x, y);
      context.lineTo(next, y);
    }
    for (let index = last; index >= first; index -= 1) {
      const x = toX(axis, memory.time[index]!);
      const next = index < last ? toX(axis, memory.time[index + 1]!) : axis.width;
      const y = toY(base[index]!);
      context.lineTo(next, y);
      context.lineTo(x, y);
      base[index] = base[index]! + values[index]!;
    }
    context.fillStyle = kindColour(kind);
    context.fill();
  }
  context.restore();
}

function allocator(context: Context, memory: Memory, axis: Axis, toY: (value: number) => number): void {
  const { time: times, bytes: values } = memory.usage;
  if (!times.length) return;
  context.strokeStyle = ink("ink");
  context.lineWidth = 1.25;
  context.beginPath();
  times.forEach((seconds, index) => {
    if (seconds < axis.from || seconds > axis.to) return;
    context.lineTo(toX(axis, seconds), toY(values[index]!));
  });
  context.stroke();
  context.lineWidth = 1;
}

function footer(context: Context, axis: Axis, bottom: number): void {
  context.fillStyle = ink("muted");
  context.strokeStyle = ink("line-strong");
  line(context, GUTTER, bottom + 0.5, axis.width - 10, bottom + 0.5);
  context.textAlign = "center";
  for (const seconds of ticks(axis.from, axis.to, axis.width / 120)) {
    const x = Math.round(toX(axis, seconds)) + 0.5;
    line(context, x, bottom, x, bottom + 4);
    context.fillText(time(seconds), Math.min(x, axis.width - 24), bottom + 12);
  }
}

export function overview(
  context: Context,
  memory: Memory,
  axis: Axis,
  height: number,
  top: number,
  window: [number, number] | null,
): void {
  const toY = (value: number): number => height - 2 - (value / (top || 1)) * (height - 6);
  stack(context, memory, axis, toY, height - 2);
  if (!window) return;
  const [left, right] = window.map((seconds) => toX(axis, seconds)) as [number, number];
  context.fillStyle = ink("background");
  context.globalAlpha = 0.7;
  context.fillRect(GUTTER, 0, left - GUTTER, height);
  context.fillRect(right, 0, axis.width - 10 - right, height);
  context.globalAlpha = 1;
  context.strokeStyle = ink("accent");
  context.lineWidth = 1.5;
  context.strokeRect(left, 1, Math.max(2, right - left), height - 2);
}

export function bars(
  context: Context,
  lives: Life[],
  axis: Axis,
  height: number,
  scroll: number,
  look: { chosen: Set<number>; hits: Set<number> | null; hover: number; moment: number | null },
): void {
  const first = Math.floor(scroll / ROW);
  const last = Math.min(lives.length, Math.ceil((scroll + height) / ROW));
  const end = axis.width - 10;
  context.font = FONT;
  context.textBaseline = "middle";
  const dim = look.hits ?? (look.chosen.size ? look.chosen : null);
  for (let index = first; index < last; index += 1) {
    const life = lives[index]!;
    const y = index * ROW - scroll;
    const left = Math.max(GUTTER, toX(axis, life.born));
    const right = Math.min(end, toX(axis, life.died));
    const strong = look.chosen.has(life.id);
    if (strong || index === look.hover) {
      context.fillStyle = strong ? ink("accent-soft") : ink("surface");
      context.fillRect(0, y, axis.width, ROW);
    }
    context.globalAlpha = dim && !dim.has(life.id) ? 0.3 : 1;
    context.fillStyle = kindColour(life.kind);
    const wide = Math.max(1.5, right - left);
    context.fillRect(left, y + 2, wide, ROW - 4);
    if (strong) {
      context.strokeStyle = ink("accent");
      context.lineWidth = 1.5;
      context.strokeRect(left - 0.5, y + 1.5, wide + 1, ROW - 3);
    }
    context.fillStyle = ink("ink");
    context.textAlign = "right";
    context.font = SMALL;
    context.fillText(bytes(life.bytes), GUTTER - 8, y + ROW / 2 + 0.5);
    title(context, life, left, left + wide, end, y);
    context.globalAlpha = 1;
  }
  if (look.moment !== null) {
    const x = Math.round(toX(axis, look.moment)) + 0.5;
    context.strokeStyle = ink("ink");
    line(context, x, 0, x, height);
  }
}

function title(context: Context, life: Life, left: number, right: number, end: number, y: number): void {
  const text = [life.title, life.shape].filter(Boolean).join("  ");
  const wide = textWidth(context, text);
  const middle = y + ROW / 2 + 0.5;
  context.textAlign = "left";
  if (right - left > Math.min(wide, 140) + 12) {
    context.fillStyle = "#ffffff";
    if (life.kind === "temporary" || life.kind === "activation" || life.kind === "buffer") {
      context.fillStyle = "#1d1d1b";
    }
    context.fillText(fitted(context, text, right - left - 10), left + 5, middle);
  } else if (end - right > Math.min(wide, 160) + 8) {
    context.fillStyle = ink("ink");
    context.fillText(fitted(context, text, Math.min(420, end - right - 8)), right + 5, middle);
  } else if (left - GUTTER > 60) {
    context.textAlign = "right";
    context.fillStyle = ink("ink");
    context.fillText(fitted(context, text, Math.min(420, left - GUTTER - 8)), left - 5, middle);
  }
}

function line(context: Context, x: number, y: number, toX: number, toY: number): void {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(toX, toY);
  context.stroke();
}
