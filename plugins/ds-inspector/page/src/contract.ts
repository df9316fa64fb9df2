// What the server answers; times in seconds, sizes in bytes, unknown is null.

export type Numbers = (number | null)[];

export interface Session {
  title: string;
  recordings: string[];
  live: boolean;
  /** Which view to begin with. */
  view: "graph" | "flame" | "live";
}

export interface Collector {
  name: string;
  overhead: number | null;
  note: string;
}

export interface About {
  title: string;
  origin: string;
  created: string;
  command: string;
  machine: Record<string, string>;
  collectors: Collector[];
  problems: string[];
  peaks: Record<string, Record<string, number>>;
  passes: string[];
}

export interface Summary {
  about: About;
  steps: { start: number[]; end: number[] };
  totals: Record<string, number | null>;
  phases: Record<string, number>;
  count: number;
}

export interface GraphNode {
  id: string;
  label: string;
  op: string;
  module: string;
  source: string;
  node: number | null;
  count: number;
  seconds: number | null;
  bytes: number | null;
  dtype: string;
  shape: string;
  attributes: Record<string, unknown>;
  change: number | null;
}

export interface GraphEdge {
  from: string;
  to: string;
  count: number;
  label: string;
}

export interface Terminal {
  id: string;
  label: string;
}

export interface Graph {
  group: string;
  nodes: GraphNode[];
  edges: GraphEdge[];
  inputs: Terminal[];
  outputs: Terminal[];
  truncated: number;
}

export interface Hit {
  node: number | null;
  label: string;
  op: string;
  module: string;
  group: string;
}

export interface Hits {
  hits: Hit[];
  total: number;
}

export interface Flame {
  total: number;
  names: string[];
  frames: {
    name: number[];
    depth: number[];
    start: number[];
    value: number[];
    self: number[];
    change: Numbers;
    module: number[];
    op: number[];
    source: number[];
    node: Numbers;
  };
  omitted: number;
}

export interface Lives {
  id: number[];
  born: number[];
  died: Numbers;
  bytes: number[];
  kind: string[];
  name: string[];
  op: string[];
  module: string[];
  source: string[];
  node: Numbers;
  phase: string[];
  shape: string[];
  dtype: string[];
}

export interface Peak {
  time: number;
  bytes: number;
  tensors: number[];
}

export interface Saving {
  pass: string;
  bytes: number;
  how: string;
}

export interface Memory {
  time: number[];
  kinds: string[];
  bytes: Record<string, number[]>;
  usage: { time: number[]; bytes: number[] };
  peaks: Peak[];
  lives: Lives;
  would_save: Saving[];
}

export interface OperatorColumns {
  op: string[];
  module: string[];
  calls: number[];
  seconds: Numbers;
  total: Numbers;
  bytes: Numbers;
  flops: Numbers;
  rate: Numbers;
  share_of_peak: Numbers;
  bound: string[];
  dtype: string[];
  shapes: string[];
  source: string[];
  node: Numbers;
  phase: string[];
}

export interface Operators {
  columns: OperatorColumns;
  /** Of the device, by dtype and as `bandwidth`. */
  peaks: Record<string, number>;
  by: string;
}

export interface Finding {
  id: string;
  title: string;
  evidence: string;
  remedy: string;
  pass: string | null;
  estimate: number | null;
  measured: number | null;
  module: string;
  op: string;
  source: string;
  node: number | null;
  seconds: number | null;
}

export interface Advice {
  findings: Finding[];
}

export interface Spread {
  median: number | null;
  low: number | null;
  high: number | null;
}

export interface Change {
  module?: string;
  op?: string;
  before: number | null;
  after: number | null;
  change: number | null;
  low: number | null;
  high: number | null;
  sure: boolean;
}

export interface Difference {
  steps: {
    before: Spread;
    after: Spread;
    ratio: number | null;
    low: number | null;
    high: number | null;
  };
  modules: Change[];
  operators: Change[];
  problems: string[];
}

export interface Step {
  step: number;
  seconds: number | null;
  bytes: number | null;
  peak_bytes: number | null;
  loss?: number | null;
}
