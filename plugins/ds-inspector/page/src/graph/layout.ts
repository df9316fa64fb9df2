// Where the nodes of one group go: asked of the layout engine, which runs in a worker.

import ElkConstructor, { type ELK, type ElkNode } from "elkjs/lib/elk-api.js";
import { isInlined, unpack } from "../data.ts";
import type { Graph } from "../contract.ts";
import { chain, rows } from "./chain.ts";

export interface Size {
  width: number;
  height: number;
}

export interface Placed extends Size {
  nodes: Map<string, { x: number; y: number } & Size>;
  edges: { from: string; to: string; count: number; label: string; points: number[] }[];
}

let engine: Promise<ELK> | null = null;

async function started(): Promise<ELK> {
  let address = "layout.js";
  if (isInlined) {
    const source = await unpack(document.getElementById("layout")?.textContent ?? "");
    address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  }
  const made = new ElkConstructor({
    workerFactory: () => new Worker(new URL(address, document.baseURI)),
    algorithms: ["layered"],
  });
  // The first layout compiles the engine: better now than at the first click.
  void made.layout({ id: "warm", children: [{ id: "a", width: 1, height: 1 }], edges: [] });
  return made;
}

export function warm(): Promise<ELK> {
  engine ??= started();
  return engine;
}

const OPTIONS = {
  "elk.algorithm": "layered",
  "elk.direction": "DOWN",
  "elk.edgeRouting": "POLYLINE",
  "elk.layered.spacing.nodeNodeBetweenLayers": "26",
  "elk.spacing.nodeNode": "18",
  "elk.spacing.edgeNode": "12",
  "elk.spacing.componentComponent": "30",
  // Nodes come in the order in which they run: what points backwards is drawn so.
  "elk.layered.cycleBreaking.strategy": "MODEL_ORDER",
  "elk.layered.nodePlacement.strategy": "BRANDES_KOEPF",
  "elk.layered.nodePlacement.bk.fixedAlignment": "BALANCED",
  "elk.padding": "[top=12,left=12,bottom=12,right=12]",
};

/** Above these, a quick layout is preferred to the best one: nodes, and rows that edges pass by. */
const MANY = 150;
const PASSED = 600;

export async function place(graph: Graph, size: (id: string) => Size): Promise<Placed> {
  const ids = [
    ...graph.inputs.map((one) => one.id),
    ...graph.nodes.map((one) => one.id),
    ...graph.outputs.map((one) => one.id),
  ];
  const number = new Map(ids.map((id, index) => [id, index]));
  const edges = graph.edges.filter(
    (edge) => number.has(edge.from) && number.has(edge.to) && edge.from !== edge.to,
  );
  const lines = edges.map((edge) => ({ from: number.get(edge.from)!, to: number.get(edge.to)! }));
  const found = rows(ids.length, lines);
  const forward = lines.every((line) => line.from < line.to);
  const plain = ids.length > 0 && found.count === ids.length && found.passed === 0 && forward;
  if (plain || ids.length > MANY || found.passed > PASSED) {
    return chain(ids, edges, lines, found, size);
  }
  const elk = await warm();
  const asked: ElkNode = {
    id: "root",
    layoutOptions: OPTIONS,
    children: ids.map((id) => ({ id, ...size(id) })),
    edges: edges.map((edge, index) => ({
      id: String(index),
      sources: [edge.from],
      targets: [edge.to],
    })),
  };
  const answer = await elk.layout(asked);
  const nodes: Placed["nodes"] = new Map();
  for (const child of answer.children ?? []) {
    nodes.set(child.id, {
      x: child.x ?? 0,
      y: child.y ?? 0,
      width: child.width ?? 0,
      height: child.height ?? 0,
    });
  }
  return {
    width: answer.width ?? 0,
    height: answer.height ?? 0,
    nodes,
    edges: (answer.edges ?? []).map((edge, index) => {
      const points: number[] = [];
      for (const section of edge.sections ?? []) {
        for (const point of [section.startPoint, ...(section.bendPoints ?? []), section.endPoint]) {
          points.push(point.x, point.y);
        }
      }
      return { ...edges[index]!, points };
    }),
  };
}
