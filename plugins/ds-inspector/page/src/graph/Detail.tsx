// What is known of the node under the pointer.

import type { GraphNode } from "../contract.ts";
import { bytes, place, ratio, time } from "../format.ts";
import { inside } from "./scene.ts";
import { Tip } from "../Tip.tsx";

export function Detail(props: {
  node: GraphNode;
  x: number;
  y: number;
  box: { width: number; height: number };
}) {
  const { node } = props;
  const rows: [string, string][] = [];
  if (node.op && node.op !== node.label) rows.push(["operator", node.op]);
  if (node.module && node.module !== node.label) rows.push(["module", node.module]);
  if (node.node === null) rows.push(["inside", inside(node)]);
  if (node.seconds !== null) rows.push(["time", time(node.seconds)]);
  if (node.change !== null) rows.push(["against before", ratio(node.change)]);
  if (node.bytes !== null) rows.push(["memory", bytes(node.bytes)]);
  if (node.shape) rows.push(["shape", node.shape]);
  if (node.dtype) rows.push(["dtype", node.dtype]);
  if (node.source) rows.push(["source", place(node.source)]);
  for (const [name, value] of Object.entries(node.attributes).slice(0, 6)) {
    rows.push([name, (typeof value === "string" ? value : JSON.stringify(value)).slice(0, 60)]);
  }
  return <Tip title={node.label} rows={rows} x={props.x} y={props.y} box={props.box} />;
}
