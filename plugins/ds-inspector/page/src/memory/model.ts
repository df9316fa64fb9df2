// Lives of tensors, ready to be drawn.

import type { Lives, Memory } from "../contract.ts";
import { keys, matches, type Keys } from "../selection.ts";

export interface Life {
  id: number;
  title: string;
  kind: string;
  bytes: number;
  born: number;
  /** Infinite where it outlives the recording. */
  died: number;
  shape: string;
  dtype: string;
  phase: string;
  source: string;
  module: string;
  op: string;
  keys: Keys;
}

export type Order = "size" | "birth";

export function livesOf(lives: Lives): Life[] {
  return lives.id.map((id, row) => ({
    id,
    title: lives.name[row] || lives.op[row] || `tensor ${id}`,
    kind: lives.kind[row] ?? "",
    bytes: lives.bytes[row] ?? 0,
    born: lives.born[row] ?? 0,
    died: lives.died[row] ?? Infinity,
    shape: lives.shape[row] ?? "",
    dtype: lives.dtype[row] ?? "",
    phase: lives.phase[row] ?? "",
    source: lives.source[row] ?? "",
    module: lives.module[row] ?? "",
    op: lives.op[row] ?? "",
    keys: keys({
      tensor: id,
      module: lives.module[row],
      op: lives.op[row],
      source: lives.source[row],
      node: lives.node[row],
    }),
  }));
}

export function ordered(lives: Life[], order: Order, window: [number, number]): Life[] {
  const inside = lives.filter((one) => one.born <= window[1] && one.died >= window[0]);
  return order === "birth"
    ? inside.sort((one, other) => one.born - other.born || other.bytes - one.bytes)
    : inside.sort((one, other) => other.bytes - one.bytes || one.born - other.born);
}

export function chosen(lives: Life[], selection: Keys): Set<number> {
  return new Set(lives.filter((one) => matches(one.keys, selection)).map((one) => one.id));
}

export function hits(lives: Life[], query: string): Set<number> | null {
  if (!query) return null;
  const wanted = query.toLowerCase();
  const has = (text: string): boolean => text.toLowerCase().includes(wanted);
  return new Set(
    lives
      .filter((one) => has(one.title) || has(one.module) || has(one.source) || has(one.kind))
      .map((one) => one.id),
  );
}

/** Bytes of each kind at a time. */
export function at(memory: Memory, seconds: number): [string, number][] {
  const index = before(memory.time, seconds);
  return memory.kinds.map((kind) => [kind, index < 0 ? 0 : (memory.bytes[kind]?.[index] ?? 0)]);
}

/** The last place that is not after a time, or -1. */
export function before(times: number[], seconds: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle]! <= seconds) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export function whole(memory: Memory): [number, number] {
  return [memory.time[0] ?? 0, memory.time.at(-1) ?? 1];
}

export function most(memory: Memory): number {
  let most = 0;
  for (let index = 0; index < memory.time.length; index += 1) {
    let sum = 0;
    for (const kind of memory.kinds) sum += memory.bytes[kind]![index]!;
    most = Math.max(most, sum);
  }
  return Math.max(most, ...memory.usage.bytes);
}
