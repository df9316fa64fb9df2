// Frames, ready to be drawn and asked about.

import type { Flame } from "../contract.ts";
import { keys, matches, type Keys } from "../selection.ts";

export interface Model {
  flame: Flame;
  count: number;
  depth: Int32Array;
  start: Float64Array;
  value: Float64Array;
  parent: Int32Array;
  /** The frames of each depth, by start. */
  rows: Int32Array[];
  changed: boolean;
}

export function model(flame: Flame): Model {
  const { frames } = flame;
  const count = frames.name.length;
  const depth = Int32Array.from(frames.depth);
  const parent = new Int32Array(count).fill(-1);
  const path: number[] = [];
  const rows: number[][] = [];
  for (let index = 0; index < count; index += 1) {
    const at = depth[index]!;
    path[at] = index;
    parent[index] = at > 0 ? path[at - 1]! : -1;
    (rows[at] ??= []).push(index);
  }
  return {
    flame,
    count,
    depth,
    start: Float64Array.from(frames.start),
    value: Float64Array.from(frames.value),
    parent,
    rows: rows.map((row) => Int32Array.from(row)),
    changed: frames.change.length > 0,
  };
}

export function nameOf({ flame }: Model, frame: number): string {
  return flame.names[flame.frames.name[frame]!]!;
}

export function keysOf({ flame }: Model, frame: number): Keys {
  const { names, frames } = flame;
  return keys({
    module: names[frames.module[frame]!],
    op: names[frames.op[frame]!],
    source: names[frames.source[frame]!],
    node: frames.node[frame],
  });
}

/** Which frames are selected, by the rule of `matches`, evaluated once for each name. A module's
 * frame is only what an operator in it is within. */
export function chosen({ flame, count }: Model, selection: Keys): Uint8Array {
  const found = new Uint8Array(count);
  const { names, frames } = flame;
  // 1 equal, -1 different, 0 where either does not know.
  const verdicts = (wanted: string | undefined, equal: (name: string) => boolean): Int8Array =>
    Int8Array.from(names, (name) => (name === "" || wanted === undefined ? 0 : equal(name) ? 1 : -1));
  const { module, op, source, node } = selection;
  const modules = verdicts(module, (name) => matches({ module: name }, { module, op }));
  const ops = verdicts(op, (name) => name === op);
  const sources = verdicts(source, (name) => name === source);
  const inner = op !== undefined || node !== undefined;
  for (let frame = 0; frame < count; frame += 1) {
    const row = frames.node[frame];
    if (inner && names[frames.op[frame]!] === "") continue;
    if (node !== undefined && row != null) {
      found[frame] = row === node ? 1 : 0;
      continue;
    }
    const all = [modules[frames.module[frame]!]!, ops[frames.op[frame]!]!, sources[frames.source[frame]!]!];
    found[frame] = Math.min(...all) >= 0 && Math.max(...all) === 1 ? 1 : 0;
  }
  return found;
}

/** Seconds in frames that are marked; those within others count once. */
export function total({ count, depth, value }: Model, marked: Uint8Array): number {
  let seconds = 0;
  let within = Infinity;
  for (let frame = 0; frame < count; frame += 1) {
    if (depth[frame]! > within) continue;
    within = Infinity;
    if (!marked[frame]) continue;
    seconds += value[frame]!;
    within = depth[frame]!;
  }
  return seconds;
}

export function found({ flame, count }: Model, query: string): Uint8Array {
  const marked = new Uint8Array(count);
  if (!query) return marked;
  const wanted = query.toLowerCase();
  const names = flame.names.map((name) => name.toLowerCase().includes(wanted));
  const { name, module, source } = flame.frames;
  for (let frame = 0; frame < count; frame += 1) {
    if (names[name[frame]!] || names[source[frame]!] || (names[module[frame]!] && flame.frames.op[frame])) {
      marked[frame] = 1;
    }
  }
  return marked;
}

/** The frame of a row that is drawn at a time, or -1. */
export function at({ rows, start, value }: Model, depth: number, seconds: number): number {
  const row = rows[depth];
  if (!row) return -1;
  let low = 0;
  let high = row.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (start[row[middle]!]! <= seconds) low = middle;
    else high = middle - 1;
  }
  const frame = row[low]!;
  return start[frame]! <= seconds && seconds < start[frame]! + value[frame]! ? frame : -1;
}

export function children(model: Model, frame: number): number[] {
  const found: number[] = [];
  const row = model.rows[frame < 0 ? 0 : model.depth[frame]! + 1];
  for (const one of row ?? []) if (model.parent[one] === frame) found.push(one);
  return found;
}
