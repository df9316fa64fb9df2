// What the page asks for, from what is to be seen.

import { get, type Query } from "./data.ts";
import { against, by, group, inverted, phase, recording, step, view } from "./state.ts";

export function flameQuery(): Query {
  return {
    r: recording.value,
    by: by.value,
    phase: phase.value,
    step: step.value,
    inverted: inverted.value ? 1 : 0,
    against: against.value ? 1 : 0,
  };
}

/** Ask for what is shown first. */
export function first(): void {
  const r = recording.value;
  if (view.value === "flame") ask("flame", flameQuery());
  else if (view.value === "graph") ask("graph", { r, group: group.value });
}

function ask(name: string, query: Query): void {
  get(name, query).catch(() => undefined); // Who shows it says so.
}
