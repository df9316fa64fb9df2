// Drawing the scene.

import { BOLD, SMALL, fitted, ink, textWidth, type Context } from "../canvas.ts";
import { diverging, dtypeColour, lightText, ramp } from "../colours.ts";
import { bytes, ratio, time } from "../format.ts";
import type { GraphNode } from "../contract.ts";
import type { Colour } from "../state.ts";
import { HEADER, second, type Item, type Line, type Scene } from "./scene.ts";

export interface Camera {
  x: number;
  y: number;
  scale: number;
}

export interface Look {
  colour: Colour;
  /** What the strongest colour stands for. */
  most: { seconds: number; bytes: number };
  chosen: ReadonlySet<Item>;
  cursor: Item | null;
  hover: Item | null;
  dimmed: boolean;
}

export function fill(node: GraphNode, look: Look): string {
  switch (look.colour) {
    case "time":
      return ramp("time", node.seconds && look.most.seconds ? (node.seconds / look.most.seconds) ** 0.7 : 0);
    case "memory":
      return ramp("memory", node.bytes && look.most.bytes ? (node.bytes / look.most.bytes) ** 0.7 : 0);
    case "precision":
      return dtypeColour(node.dtype);
    case "change":
      return node.change ? diverging(Math.max(-1, Math.min(1, Math.log2(node.change)))) : ink("surface");
  }
}

export function figure(node: GraphNode, colour: Colour): string {
  if (colour === "memory") return node.bytes === null ? "" : bytes(node.bytes);
  if (colour === "precision") return node.dtype;
  if (colour === "change") return node.change === null ? "" : ratio(node.change);
  return node.seconds === null ? "" : time(node.seconds);
}

export function paint(
  context: Context,
  scene: Scene,
  camera: Camera,
  box: { width: number; height: number },
  look: Look,
): void {
  const { scale } = camera;
  const left = -camera.x / scale;
  const top = -camera.y / scale;
  const right = left + box.width / scale;
  const bottom = top + box.height / scale;
  const visible = (item: Item): boolean =>
    item.x < right && item.x + item.width > left && item.y < bottom && item.y + item.height > top;
  context.save();
  context.translate(camera.x, camera.y);
  context.scale(scale, scale);
  context.lineJoin = "round";
  const shown = scene.items.filter(visible);
  for (const item of shown) if (item.open) frame(context, item, look, scale);
  edges(context, scene.lines, look, { left, top, right, bottom }, scale);
  for (const item of shown) if (!item.open) card(context, item, look, scale);
  context.restore();
}

function frame(context: Context, item: Item, look: Look, scale: number): void {
  const chosen = look.chosen.has(item);
  context.beginPath();
  context.roundRect(item.x, item.y, item.width, item.height, 8);
  context.fillStyle = ink(item.depth % 2 ? "frame-odd" : "frame-even");
  context.fill();
  outline(context, chosen, look.cursor === item, look.hover === item, scale);
  if (scale < 0.25 || !item.node) return;
  context.fillStyle = ink("ink");
  context.font = BOLD;
  context.textBaseline = "middle";
  chevron(context, item.x + 14, item.y + HEADER / 2, true);
  const value = figure(item.node, look.colour);
  context.font = SMALL;
  const wide = value ? textWidth(context, value) + 12 : 0;
  context.textAlign = "right";
  context.fillStyle = ink("muted");
  context.fillText(value, item.x + item.width - 10, item.y + HEADER / 2);
  context.textAlign = "left";
  context.fillStyle = ink("ink");
  context.font = BOLD;
  const name = fitted(context, item.label, item.width - 36 - wide, true);
  context.fillText(name, item.x + 26, item.y + HEADER / 2);
}

function card(context: Context, item: Item, look: Look, scale: number): void {
  const { node } = item;
  context.textBaseline = "middle";
  if (!node) {
    context.beginPath();
    context.roundRect(item.x, item.y, item.width, item.height, item.height / 2);
    context.fillStyle = ink("surface");
    context.fill();
    context.strokeStyle = ink("line-strong");
    context.lineWidth = 1;
    context.stroke();
    if (scale < 0.35) return;
    context.font = SMALL;
    context.fillStyle = ink("muted");
    context.textAlign = "center";
    const text = fitted(context, item.label, item.width - 14, true);
    context.fillText(text, item.x + item.width / 2, item.y + item.height / 2 + 0.5);
    return;
  }
  const chosen = look.chosen.has(item);
  const colour = fill(node, look);
  const group = node.node === null;
  if (group && scale > 0.2) {
    // A second sheet behind says that there is more inside.
    context.beginPath();
    context.roundRect(item.x + 4, item.y + 4, item.width, item.height, 6);
    context.fillStyle = ink("surface");
    context.fill();
    context.strokeStyle = ink("line-strong");
    context.lineWidth = 1;
    context.stroke();
  }
  context.globalAlpha = look.dimmed && !chosen ? 0.45 : 1;
  context.beginPath();
  context.roundRect(item.x, item.y, item.width, item.height, 6);
  context.globalAlpha = 1;
  context.fillStyle = colour;
  context.fill();
  outline(context, chosen, look.cursor === item, look.hover === item, scale);
  if (scale < 0.3) return;
  const light = lightText(colour);
  const value = figure(node, look.colour);
  context.font = SMALL;
  const wide = value ? textWidth(context, value) + 10 : 0;
  context.textAlign = "right";
  context.fillStyle = light ? "#ffffff" : ink("on-light");
  context.fillText(value, item.x + item.width - 10, item.y + 29);
  context.textAlign = "left";
  context.globalAlpha = 0.75;
  const below = fitted(context, second(node), item.width - 20 - wide);
  context.fillText(below, item.x + 10, item.y + 29);
  context.globalAlpha = 1;
  context.font = BOLD;
  if (group) chevron(context, item.x + 13, item.y + 14, false);
  const indent = group ? 24 : 10;
  const name = fitted(context, item.label, item.width - indent - 8, true);
  context.fillText(name, item.x + indent, item.y + 14.5);
}

function outline(context: Context, chosen: boolean, cursor: boolean, hover: boolean, scale: number): void {
  if (chosen) {
    context.strokeStyle = ink("accent");
    context.lineWidth = Math.max(2.5, (cursor ? 3 : 2) / scale);
  } else {
    context.strokeStyle = hover ? ink("muted") : ink("line-strong");
    context.lineWidth = hover ? 1.5 : 1;
  }
  context.stroke();
}

function chevron(context: Context, x: number, y: number, open: boolean): void {
  context.beginPath();
  if (open) {
    context.moveTo(x - 4, y - 2);
    context.lineTo(x + 4, y - 2);
    context.lineTo(x, y + 3.5);
  } else {
    context.moveTo(x - 2, y - 4);
    context.lineTo(x + 3.5, y);
    context.lineTo(x - 2, y + 4);
  }
  context.fill();
}

function edges(
  context: Context,
  lines: Line[],
  look: Look,
  seen: { left: number; top: number; right: number; bottom: number },
  scale: number,
): void {
  const ends = new Set(look.chosen);
  const plain: Line[] = [];
  const strong: Line[] = [];
  for (const line of lines) {
    if (!inSight(line.points, seen)) continue;
    (ends.size < 40 && (ends.has(line.from) || ends.has(line.to)) ? strong : plain).push(line);
  }
  context.lineWidth = Math.max(1, 0.8 / scale);
  for (const [group, colour] of [
    [plain, ink("edge")],
    [strong, ink("accent")],
  ] as const) {
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.beginPath();
    for (const line of group) trace(context, line.points);
    context.stroke();
    if (scale > 0.25) for (const line of group) arrow(context, line.points);
  }
  if (scale < 0.5) return;
  context.font = SMALL;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const line of [...plain, ...strong]) {
    const text = line.count > 1 ? `×${line.count}` : scale > 0.9 ? line.label : "";
    if (text) label(context, line, fitted(context, text, 150));
  }
}

function label(context: Context, { points }: Line, text: string): void {
  const last = points.length - 1;
  if (last < 3 || !text) return;
  const x = points.length > 4 ? points[2]! : (points[0]! + points[last - 1]!) / 2;
  const y = points.length > 4 ? (points[1]! + points[3]!) / 2 : (points[1]! + points[last]!) / 2;
  const wide = textWidth(context, text) + 6;
  context.globalAlpha = 0.85;
  context.fillStyle = ink("background");
  context.fillRect(x - wide / 2, y - 7, wide, 14);
  context.globalAlpha = 1;
  context.fillStyle = ink("muted");
  context.fillText(text, x, y + 0.5);
}

function inSight(points: number[], seen: { left: number; top: number; right: number; bottom: number }): boolean {
  let left = Infinity;
  let right = -Infinity;
  let top = Infinity;
  let bottom = -Infinity;
  for (let index = 0; index + 1 < points.length; index += 2) {
    left = Math.min(left, points[index]!);
    right = Math.max(right, points[index]!);
    top = Math.min(top, points[index + 1]!);
    bottom = Math.max(bottom, points[index + 1]!);
  }
  return left <= seen.right && right >= seen.left && top <= seen.bottom && bottom >= seen.top;
}

function trace(context: Context, points: number[]): void {
  if (points.length < 4) return;
  context.moveTo(points[0]!, points[1]!);
  for (let index = 2; index + 3 < points.length; index += 2) {
    const [x, y, nextX, nextY] = [points[index]!, points[index + 1]!, points[index + 2]!, points[index + 3]!];
    const room = Math.hypot(nextX - x, nextY - y) / 2;
    context.arcTo(x, y, nextX, nextY, Math.min(8, room));
  }
  context.lineTo(points.at(-2)!, points.at(-1)!);
}

function arrow(context: Context, points: number[]): void {
  if (points.length < 4) return;
  const [fromX, fromY, x, y] = points.slice(-4) as [number, number, number, number];
  const length = Math.hypot(x - fromX, y - fromY) || 1;
  const [dx, dy] = [(x - fromX) / length, (y - fromY) / length];
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x - 6 * dx - 3 * dy, y - 6 * dy + 3 * dx);
  context.lineTo(x - 6 * dx + 3 * dy, y - 6 * dy - 3 * dx);
  context.fill();
}
