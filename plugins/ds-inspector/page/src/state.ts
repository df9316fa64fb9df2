// What is shown, and its copy in the address.

import { batch, effect, signal } from "@preact/signals";
import { keys, type Keys } from "./selection.ts";

export type View =
  | "graph"
  | "flame"
  | "memory"
  | "operators"
  | "advice"
  | "difference"
  | "live";

export type By = "module" | "operator" | "source";
export type Colour = "time" | "memory" | "precision" | "change";

const VIEWS: View[] = ["graph", "flame", "memory", "operators", "advice", "difference", "live"];

export const view = signal<View>("graph");
export const selection = signal<Keys>({});
/** Which of two recordings. */
export const recording = signal(0);
export const query = signal("");

/** Graph: the group that is looked at, those that are open in it, and what colours mean. */
export const group = signal("");
export const open = signal<ReadonlySet<string>>(new Set());
export const colour = signal<Colour>("time");

/** Flame graph. */
export const by = signal<By>("module");
export const phase = signal("all");
export const step = signal("all");
export const inverted = signal(false);
export const against = signal(false);

/** Memory: the window, in seconds. */
export const span = signal<[number, number] | null>(null);

/** Asked of the view that is shown next: bring the selection into sight. */
export const reveal = signal(0);

const texts = { group, query, phase, step } as const;
const defaults: Record<string, string> = { group: "", query: "", phase: "all", step: "all" };

function read(): void {
  const given = new URLSearchParams(location.hash.slice(1));
  const one = <T extends string>(name: string, choices: readonly T[]): T => {
    const value = given.get(name) as T;
    return choices.includes(value) ? value : choices[0]!;
  };
  const number = (name: string): number | null =>
    /^\d+$/.test(given.get(name) ?? "") ? Number(given.get(name)) : null;
  batch(() => {
    view.value = one("view", VIEWS);
    recording.value = given.get("r") === "1" ? 1 : 0;
    by.value = one("by", ["module", "operator", "source"]);
    colour.value = one("colour", ["time", "memory", "precision", "change"]);
    inverted.value = given.get("inverted") === "1";
    against.value = given.get("against") === "1";
    for (const [name, holder] of Object.entries(texts)) {
      holder.value = given.get(name) ?? defaults[name]!;
    }
    open.value = new Set(given.getAll("open"));
    const window = (given.get("span") ?? "").split("~").map(Number);
    span.value =
      window.length === 2 && window.every(Number.isFinite) && window[0]! < window[1]!
        ? [window[0]!, window[1]!]
        : null;
    selection.value = keys({
      module: given.get("module"),
      op: given.get("op"),
      source: given.get("source"),
      node: number("node"),
      tensor: number("tensor"),
    });
  });
}

function written(): string {
  const given = new URLSearchParams({ view: view.value });
  if (recording.value) given.set("r", "1");
  if (by.value !== "module") given.set("by", by.value);
  if (colour.value !== "time") given.set("colour", colour.value);
  if (inverted.value) given.set("inverted", "1");
  if (against.value) given.set("against", "1");
  for (const [name, holder] of Object.entries(texts)) {
    if (holder.value !== defaults[name]) given.set(name, holder.value);
  }
  for (const path of open.value) given.append("open", path);
  if (span.value) given.set("span", span.value.map((end) => end.toPrecision(9)).join("~"));
  for (const [name, value] of Object.entries(selection.value)) given.set(name, String(value));
  return given.toString();
}

/** Keep state and address the same, from now on. */
export function follow(): void {
  read();
  let last = "";
  addEventListener("hashchange", () => {
    if (location.hash.slice(1) !== last) read();
  });
  effect(() => {
    const text = written();
    if (text === last) return;
    last = text;
    // Not a step back for each selection: only views are.
    history.replaceState(null, "", `#${text}`);
  });
}

export function select(what: Keys): void {
  selection.value = what;
}

export function show(next: View): void {
  batch(() => {
    view.value = next;
    reveal.value += 1;
  });
}

export type Chosen = Keys;
