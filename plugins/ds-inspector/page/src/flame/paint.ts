// Drawing frames.

import { FONT, fitted, ink, type Context } from "../canvas.ts";
import { diverging, lightText, shade } from "../colours.ts";
import { signed } from "../format.ts";
import { nameOf, type Model } from "./model.ts";

export const ROW = 20;

export interface Window {
  from: number;
  to: number;
}

export interface Look {
  window: Window;
  scroll: number;
  /** The frame that fills the width, or -1. */
  zoomed: number;
  cursor: number;
  hover: number;
  chosen: Uint8Array;
  found: Uint8Array | null;
  anyChosen: boolean;
  sources: boolean;
}

const UNMATCHED = "(unmatched)";

export function colourOf(model: Model, frame: number, look: Pick<Look, "sources">): string {
  const { frames, names } = model.flame;
  if (model.changed) {
    const change = frames.change[frame] ?? 0;
    const value = model.value[frame]!;
    const before = value - change;
    const part = change / Math.max(value, before, 1e-12);
    // What hardly weighs stays pale, however much it changed.
    const weight = Math.min(1, Math.abs(change) / (model.flame.total * 0.004 || 1));
    return diverging(Math.sign(part) * Math.abs(part) ** 0.7 * weight);
  }
  const name = nameOf(model, frame);
  if (name === UNMATCHED) return ink("unmatched");
  const isOperator = names[frames.op[frame]!] !== "";
  if (isOperator) return shade(32, name);
  return shade(look.sources ? 150 : 212, name);
}

export function paint(
  context: Context,
  model: Model,
  box: { width: number; height: number },
  look: Look,
): void {
  const { from, to } = look.window;
  const scale = box.width / (to - from || 1);
  const first = Math.max(0, Math.floor(look.scroll / ROW));
  const last = Math.min(model.rows.length, Math.ceil((look.scroll + box.height) / ROW));
  const gap = 1;
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.font = FONT;
  for (let depth = first; depth < last; depth += 1) {
    const row = model.rows[depth]!;
    const y = depth * ROW - look.scroll;
    let drawn = -1;
    for (let index = begin(model, row, from); index < row.length; index += 1) {
      const frame = row[index]!;
      const start = model.start[frame]!;
      if (start > to) break;
      const left = Math.max(0, (start - from) * scale);
      const right = Math.min(box.width, (start + model.value[frame]! - from) * scale);
      // Those below half a pixel share it.
      if (right - Math.max(left, drawn) < 0.5) continue;
      drawn = right;
      one(context, model, frame, left, y, Math.max(0.7, right - left - (right - left > 3 ? gap : 0)), look);
    }
  }
  for (const frame of [look.hover, look.cursor]) {
    if (frame < 0) continue;
    const x = Math.max(0, (model.start[frame]! - from) * scale);
    const right = Math.min(box.width, (model.start[frame]! + model.value[frame]! - from) * scale);
    if (right < 0 || x > box.width) continue;
    const y = model.depth[frame]! * ROW - look.scroll;
    context.strokeStyle = frame === look.cursor ? ink("accent") : ink("muted");
    context.lineWidth = frame === look.cursor ? 2 : 1;
    context.strokeRect(x + 0.5, y + 0.5, Math.max(1, right - x - 2), ROW - 2);
  }
}

function begin(model: Model, row: Int32Array, from: number): number {
  let low = 0;
  let high = row.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const frame = row[middle]!;
    if (model.start[frame]! + model.value[frame]! <= from) low = middle + 1;
    else high = middle;
  }
  return low;
}

function one(
  context: Context,
  model: Model,
  frame: number,
  x: number,
  y: number,
  width: number,
  look: Look,
): void {
  const above = look.zoomed >= 0 && model.depth[frame]! < model.depth[look.zoomed]!;
  const isFound = look.found?.[frame] === 1;
  const isChosen = look.anyChosen && look.chosen[frame] === 1;
  const faded = (look.found && !isFound) || (!look.found && look.anyChosen && !isChosen);
  const colour = isFound ? ink("found") : colourOf(model, frame, look);
  context.globalAlpha = above ? 0.5 : faded ? 0.42 : 1;
  context.fillStyle = colour;
  context.fillRect(x, y, width, ROW - 1);
  context.globalAlpha = 1;
  if (isChosen && width > 2) {
    context.fillStyle = ink("accent");
    context.fillRect(x, y + ROW - 3, width, 2);
  }
  if (width < 24) return;
  const text = fitted(context, nameOf(model, frame), width - 8);
  if (!text) return;
  context.globalAlpha = faded && !isChosen ? 0.6 : 1;
  context.fillStyle = lightText(colour) && !isFound ? "#ffffff" : ink("on-light");
  if (faded || above) context.fillStyle = ink("ink");
  context.fillText(text, x + 4, y + ROW / 2);
  if (model.changed && width > 220) {
    const change = signed(model.flame.frames.change[frame] ?? null);
    context.textAlign = "right";
    context.globalAlpha *= 0.8;
    context.fillText(change, x + width - 5, y + ROW / 2);
    context.textAlign = "left";
  }
  context.globalAlpha = 1;
}
