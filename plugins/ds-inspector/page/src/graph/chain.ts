// A quick layout of groups that need no engine, one node after the other, or that it would take
// seconds for: many nodes, with edges that skip over many. Rows by longest path, and lanes beside
// them for edges that pass rows by.

import type { Graph } from "../contract.ts";
import type { Placed, Size } from "./layout.ts";

const PAD = 12;
const COLUMN = 18;
const GAP = 26;
const LANE = 7;

interface Line {
  from: number;
  to: number;
}

export interface Rows {
  /** Of each node. */
  row: Int32Array;
  /** How many there are. */
  count: number;
  /** Rows that edges pass by, in all. */
  passed: number;
}

/** The row of each node; edges against the order of the nodes are left out of account. */
export function rows(count: number, lines: Line[]): Rows {
  const row = new Int32Array(count);
  const ahead = lines.filter((line) => line.from < line.to).sort((one, other) => one.from - other.from);
  for (const { from, to } of ahead) row[to] = Math.max(row[to]!, row[from]! + 1);
  const deepest = row.reduce((one, other) => Math.max(one, other), -1);
  let passed = 0;
  for (const { from, to } of lines) passed += Math.max(0, Math.abs(row[to]! - row[from]!) - 1);
  return { row, count: deepest + 1, passed };
}

export function chain(
  ids: string[],
  edges: Graph["edges"],
  lines: Line[],
  { row }: Rows,
  size: (id: string) => Size,
): Placed {
  const sizes = ids.map(size);
  const members: number[][] = [];
  row.forEach((at, index) => (members[at] ??= []).push(index));
  const wide = members.map((row) => row.reduce((sum, one) => sum + sizes[one]!.width + COLUMN, -COLUMN));
  const width = wide.reduce((one, other) => Math.max(one, other), 0);
  const spots = new Array<{ x: number; y: number } & Size>(ids.length);
  let y = PAD;
  members.forEach((row, at) => {
    let x = PAD + (width - wide[at]!) / 2;
    for (const one of row) {
      spots[one] = { x, y, ...sizes[one]! };
      x += sizes[one]!.width + COLUMN;
    }
    y += Math.max(...row.map((one) => sizes[one]!.height)) + GAP;
  });
  const right = PAD + width + COLUMN;
  const lanes = laned(lines, row);
  const paths = lines.map(({ from, to }, index) => {
    const [start, end] = [spots[from]!, spots[to]!];
    const [x, top] = [start.x + start.width / 2, start.y + start.height];
    const [toX, bottom] = [end.x + end.width / 2, end.y];
    const lane = lanes[index]!;
    if (lane < 0) return [x, top, toX, bottom];
    const side = right + lane * LANE;
    return [x, top, x, top + GAP / 3, side, top + GAP / 2, side, bottom - GAP / 2, toX, bottom - GAP / 3, toX, bottom];
  });
  const most = lanes.reduce((one, other) => Math.max(one, other), -1);
  return {
    width: right + (most + 1) * LANE + PAD,
    height: y - GAP + PAD,
    nodes: new Map(ids.map((id, index) => [id, spots[index]!])),
    edges: edges.map((edge, index) => ({ ...edge, points: paths[index]! })),
  };
}

/** A lane for each edge that passes rows by, so that no two share one; -1 for the others. */
function laned(lines: Line[], row: Int32Array): Int32Array {
  const lanes = new Int32Array(lines.length).fill(-1);
  const spans = lines
    .map(({ from, to }, index) => {
      const [one, other] = [row[from]!, row[to]!];
      return { index, low: Math.min(one, other), high: Math.max(one, other) };
    })
    .filter(({ low, high }) => high - low > 1)
    .sort((one, other) => one.low - other.low || other.high - one.high);
  const free: number[] = [];
  for (const { index, low, high } of spans) {
    let lane = free.findIndex((until) => until <= low);
    if (lane < 0) lane = free.length;
    free[lane] = high;
    lanes[index] = lane;
  }
  return lanes;
}
