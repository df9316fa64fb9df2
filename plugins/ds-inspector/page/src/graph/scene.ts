// The groups that are open, laid out one within the other.

import { get } from "../data.ts";
import { bytes, time } from "../format.ts";
import { keys, type Keys } from "../selection.ts";
import type { Graph, GraphNode } from "../contract.ts";
import { place, type Placed, type Size } from "./layout.ts";

export interface Item {
  id: string;
  x: number;
  y: number;
  width: number;
  height: number;
  depth: number;
  /** Null for a value that enters or leaves a group. */
  node: GraphNode | null;
  label: string;
  keys: Keys;
  /** The path of a group; "" for an operator. */
  path: string;
  open: boolean;
  parent: Item | null;
}

export interface Line {
  from: Item;
  to: Item;
  points: number[];
  count: number;
  label: string;
}

export interface Scene extends Size {
  group: string;
  items: Item[];
  lines: Line[];
  graph: Graph;
  truncated: number;
}

export const HEADER = 30;
const HEIGHT = 42;
const MARGIN = 4;

const layouts = new Map<string, Promise<Placed>>();

export type Measure = (text: string, bold: boolean) => number;

function sizes(graph: Graph, inner: Map<string, Built>, measure: Measure): (id: string) => Size {
  const found = new Map<string, Size>();
  for (const node of graph.nodes) {
    const opened = inner.get(node.id);
    if (opened) {
      found.set(node.id, {
        width: Math.max(opened.placed.width + 2 * MARGIN, 160),
        height: opened.placed.height + HEADER + MARGIN,
      });
      continue;
    }
    // Room for whichever figure is shown, so that colours can change without another layout.
    const figures = [time(node.seconds), bytes(node.bytes), node.dtype];
    const figure = Math.max(...figures.map((text) => measure(text, false)));
    const below = measure(second(node), false) + figure + 36;
    const wide = Math.max(measure(node.label, true) + 34, below);
    found.set(node.id, { width: Math.min(280, Math.max(112, Math.ceil(wide))), height: HEIGHT });
  }
  for (const end of [...graph.inputs, ...graph.outputs]) {
    found.set(end.id, {
      width: Math.min(200, Math.max(40, measure(end.label, false) + 20)),
      height: 22,
    });
  }
  return (id) => found.get(id)!;
}

/** The line below a node's name, without its time. */
export function second(node: GraphNode): string {
  if (node.node === null) return inside(node);
  const plain = node.op.slice(node.op.lastIndexOf(":") + 1);
  const op = plain === node.label.replace(/_\d+$/, "") ? "" : plain;
  return [op, node.shape].filter(Boolean).join("  ") || node.dtype;
}

/** How much a group holds. */
export function inside(node: GraphNode): string {
  return `${node.count.toLocaleString("en")} ${node.count === 1 ? "operator" : "operators"}`;
}

interface Built {
  graph: Graph;
  placed: Placed;
  inner: Map<string, Built>;
}

async function build(
  recording: number,
  path: string,
  open: ReadonlySet<string>,
  measure: Measure,
  depth: number,
): Promise<Built> {
  const graph = await get<Graph>("graph", { r: recording, group: path });
  const inner = new Map<string, Built>();
  if (depth < 24) {
    const opened = graph.nodes.filter((node) => node.node === null && open.has(node.id.slice(2)));
    await Promise.all(
      opened.map(async (node) => {
        inner.set(node.id, await build(recording, node.id.slice(2), open, measure, depth + 1));
      }),
    );
  }
  const below = [...open].filter((one) => graph.nodes.some((node) => inner.has(node.id) &&
    (one === node.id.slice(2) || one.startsWith(`${node.id.slice(2)}.`) || one.startsWith(`${node.id.slice(2)}#`))));
  const key = `${recording} ${path} ${below.sort().join(" ")}`;
  let placed = layouts.get(key);
  if (!placed) {
    placed = place(graph, sizes(graph, inner, measure));
    layouts.set(key, placed);
    placed.catch(() => layouts.delete(key));
  }
  return { graph, placed: await placed, inner };
}

/** Everything that is visible of a group, with absolute coordinates. */
export async function scene(
  recording: number,
  group: string,
  open: ReadonlySet<string>,
  measure: Measure,
): Promise<Scene> {
  const built = await build(recording, group, open, measure, 0);
  const items: Item[] = [];
  const lines: Line[] = [];
  let truncated = 0;
  const add = (one: Built, x: number, y: number, depth: number, parent: Item | null): void => {
    truncated += one.graph.truncated;
    const here = new Map<string, Item>();
    const put = (id: string, node: GraphNode | null, label: string): void => {
      const at = one.placed.nodes.get(id);
      if (!at) return;
      const item: Item = {
        id,
        x: x + at.x,
        y: y + at.y,
        width: at.width,
        height: at.height,
        depth,
        node,
        label,
        keys: node ? keys(node) : {},
        path: node && node.node === null ? id.slice(2) : "",
        open: one.inner.has(id),
        parent,
      };
      here.set(id, item);
      items.push(item);
      const opened = one.inner.get(id);
      if (opened) {
        const left = (item.width - opened.placed.width) / 2;
        add(opened, item.x + left, item.y + HEADER, depth + 1, item);
      }
    };
    for (const end of [...one.graph.inputs, ...one.graph.outputs]) put(end.id, null, end.label);
    for (const node of one.graph.nodes) put(node.id, node, node.label);
    for (const edge of one.placed.edges) {
      const from = here.get(edge.from);
      const to = here.get(edge.to);
      if (!from || !to) continue;
      const points = edge.points.map((value, index) => value + (index % 2 ? y : x));
      lines.push({ from, to, points, count: edge.count, label: edge.label });
    }
  };
  add(built, 0, 0, 0, null);
  return {
    group,
    items,
    lines,
    graph: built.graph,
    truncated,
    width: built.placed.width,
    height: built.placed.height,
  };
}
