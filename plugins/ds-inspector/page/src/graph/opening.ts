// Which groups are opened without being asked.

import type { Graph } from "../contract.ts";
import { get } from "../data.ts";
import type { Item, Scene } from "./scene.ts";

const FEW = 8;

/** The path of the largest closed group, if the scene has room for what is in it. */
export async function worthOpening(recording: number, scene: Scene): Promise<string | null> {
  const nodes = scene.items.filter((item) => item.node && !item.open);
  if (nodes.length > FEW) return null;
  const largest = nodes
    .filter((item) => item.path)
    .reduce<Item | null>(
      (one, other) => (one && one.node!.count >= other.node!.count ? one : other),
      null,
    );
  if (!largest || largest.node!.count < 2) return null;
  const { nodes: inner } = await get<Graph>("graph", { r: recording, group: largest.path });
  return inner.length <= 2 * FEW ? largest.path : null;
}
