// The one selection that all views follow.

export interface Keys {
  module?: string;
  op?: string;
  source?: string;
  node?: number;
  tensor?: number;
}

const DECISIVE = ["tensor", "node"] as const;
const EQUAL = ["op", "source"] as const;

/** The keys that are known; "", null and negative rows are unknown. */
export function keys(from: {
  module?: string | null;
  op?: string | null;
  source?: string | null;
  node?: number | null;
  tensor?: number | null;
}): Keys {
  const found: Keys = {};
  if (from.module) found.module = from.module;
  if (from.op) found.op = from.op;
  if (from.source) found.source = from.source;
  if (from.node != null && from.node >= 0) found.node = from.node;
  if (from.tensor != null && from.tensor >= 0) found.tensor = from.tensor;
  return found;
}

export function isEmpty(selection: Keys): boolean {
  return Object.keys(selection).length === 0;
}

/** Whether an item belongs to what is selected.
 *
 * A tensor, else a node of the graph, decides alone where both name one: a node stands for all the
 * operators that it ran. Otherwise all keys that both have must be equal, and there must be one. A
 * module also stands for what is below it, unless an operator is named. */
export function matches(item: Keys, selection: Keys): boolean {
  for (const key of DECISIVE) {
    if (item[key] !== undefined && selection[key] !== undefined) {
      return item[key] === selection[key];
    }
  }
  let shared = false;
  for (const key of EQUAL) {
    if (item[key] === undefined || selection[key] === undefined) continue;
    if (item[key] !== selection[key]) return false;
    shared = true;
  }
  if (item.module !== undefined && selection.module !== undefined) {
    if (!within(item.module, selection)) return false;
    shared = true;
  }
  return shared;
}

function within(module: string, selection: Keys): boolean {
  if (module === selection.module) return true;
  return selection.op === undefined && module.startsWith(`${selection.module}.`);
}

export function same(one: Keys, other: Keys): boolean {
  return (
    one.module === other.module &&
    [...DECISIVE, ...EQUAL].every((key) => one[key] === other[key])
  );
}
