// Where in the graph something is that was selected elsewhere.

import type { Graph, Hits } from "../contract.ts";
import { get } from "../data.ts";
import type { Keys } from "../selection.ts";

export interface Found {
  group: string;
  id: string;
}

export async function locate(recording: number, selection: Keys): Promise<Found | null> {
  const { node, module, op } = selection;
  if (node !== undefined) {
    const { hits } = await get<Hits>("graph/search", { r: recording, q: `node:${node}` });
    const hit = hits.find((one) => one.node === node);
    if (hit) return { group: hit.group, id: `n:${node}` };
  }
  if (module === undefined) {
    if (!op) return null;
    const { hits } = await get<Hits>("graph/search", { r: recording, q: op });
    const hit = hits.find((one) => one.op === op);
    return hit?.node != null ? { group: hit.group, id: `n:${hit.node}` } : null;
  }
  return descend(recording, "", module, op);
}

async function descend(
  recording: number,
  group: string,
  module: string,
  op: string | undefined,
  depth = 0,
): Promise<Found | null> {
  const graph = await get<Graph>("graph", { r: recording, group });
  const here = graph.nodes.find((one) => one.node !== null && one.module === module && one.op === op);
  if (here) return { group, id: here.id };
  const itself = graph.nodes.find((one) => one.node === null && one.id === `g:${module}`);
  if (itself && op === undefined) return { group, id: itself.id };
  // The longest path first; parts of a split group share its module.
  const inner = graph.nodes
    .filter((one) => one.node === null && holds(one.module, module) && one.id !== `g:${group}`)
    .sort((one, other) => other.module.length - one.module.length);
  if (depth < 64) {
    for (const one of inner.slice(0, 8)) {
      const found = await descend(recording, one.id.slice(2), module, op, depth + 1);
      if (found) return found;
    }
  }
  return itself ? { group, id: itself.id } : null;
}

function holds(group: string, module: string): boolean {
  return group === "" || group === module || module.startsWith(`${group}.`);
}

const FEW = 8;

/** A group that has something to see around it, and which groups in it to open to come back. */
export async function around(
  recording: number,
  group: string,
): Promise<{ group: string; open: string[] }> {
  const open: string[] = [];
  let here = group;
  while (here) {
    const { nodes } = await get<Graph>("graph", { r: recording, group: here });
    const above = here.slice(0, Math.max(0, here.lastIndexOf("."), here.lastIndexOf("#")));
    if (nodes.length > FEW) break;
    const outer = await get<Graph>("graph", { r: recording, group: above }).catch(() => null);
    if (!outer?.nodes.some((one) => one.id === `g:${here}`)) break;
    open.push(here);
    here = above;
  }
  return { group: here, open };
}
