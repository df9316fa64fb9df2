// The graph's node that is selected.

import { useEffect, useState } from "preact/hooks";
import type { Graph, GraphNode } from "../contract.ts";
import { get } from "../data.ts";
import { locate } from "../graph/locate.ts";
import type { Keys } from "../selection.ts";

export function useNode(recording: number, chosen: Keys): GraphNode | null {
  const [found, setFound] = useState<{ asked: string; node: GraphNode | null }>({
    asked: "",
    node: null,
  });
  const asked = JSON.stringify([recording, chosen]);
  useEffect(() => {
    let current = true;
    void find(recording, chosen).then(
      (node) => current && setFound({ asked, node }),
      () => current && setFound({ asked, node: null }),
    );
    return () => {
      current = false;
    };
  }, [asked]);
  return found.asked === asked ? found.node : null;
}

async function find(recording: number, chosen: Keys): Promise<GraphNode | null> {
  if (chosen.node === undefined && chosen.module === undefined) return null;
  const at = await locate(recording, chosen);
  if (!at) return null;
  const graph = await get<Graph>("graph", { r: recording, group: at.group });
  const found = graph.nodes.find((one) => one.id === at.id) ?? null;
  // A group is not what an operator in it is.
  return found?.node === null && chosen.op !== undefined ? null : found;
}
