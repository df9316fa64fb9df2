// Where answers come from: the server, or the page itself when it is a single file.

import type { Graph, Hit, Hits } from "./contract.ts";

export type Query = Record<string, string | number | undefined>;

interface Inlined {
  answers: Record<string, unknown>;
  left_out: string[];
}

const known = new Map<string, Promise<unknown>>();
let inlined: Promise<Inlined> | null = null;
const element = document.getElementById("data");
if (element) inlined = unpack(element.textContent ?? "").then((text) => JSON.parse(text) as Inlined);

export const isInlined = element !== null;

/** Text that was packed by gzip and base64. */
export async function unpack(packed: string): Promise<string> {
  const raw = Uint8Array.from(atob(packed.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

export async function leftOut(): Promise<string[]> {
  return inlined ? (await inlined).left_out : [];
}

/** An answer, asked for only once. */
export function get<T>(name: string, query: Query = {}): Promise<T> {
  const given = Object.entries(query)
    .filter(([, value]) => value !== undefined && value !== "")
    .map(([key, value]) => [key, String(value)] as [string, string])
    .sort(([one], [other]) => (one < other ? -1 : 1));
  const key = `${name}?${given.map(([one, value]) => `${one}=${value}`).join("&")}`;
  let found = known.get(key);
  if (!found) {
    found = inlined ? fromPage(key, name, query) : fromServer(name, given);
    known.set(key, found);
    found.catch(() => known.delete(key));
  }
  return found as Promise<T>;
}

async function fromServer(name: string, given: [string, string][]): Promise<unknown> {
  const query = new URLSearchParams(given).toString();
  let response: Response;
  try {
    response = await fetch(`api/${name}${query ? `?${query}` : ""}`);
  } catch {
    throw new Error("The server has ended. Start it again with ds inspect view.");
  }
  if (response.ok) return response.json();
  const text = await response.text();
  let told = "";
  try {
    told = (JSON.parse(text) as { error?: string }).error ?? "";
  } catch {
    // Not the server's own sentence.
  }
  throw new Error(told || `The server could not answer (${response.status}).`);
}

async function fromPage(key: string, name: string, query: Query): Promise<unknown> {
  const { answers } = await inlined!;
  if (key in answers) return answers[key];
  if (name === "graph/search") return searched(answers, String(query.q ?? ""), String(query.r ?? 0));
  throw new Error("This file does not hold that; ds inspect view on the recording shows it.");
}

const MOST = 100;

function searched(answers: Record<string, unknown>, text: string, recording: string): Hits {
  const hits: Hit[] = [];
  let total = 0;
  const row = /^node:(\d+)$/.exec(text);
  const module = /^module:(.*)$/.exec(text);
  const wanted = text.toLowerCase();
  for (const [key, answer] of Object.entries(answers)) {
    if (!key.startsWith("graph?") || !key.endsWith(`r=${recording}`)) continue;
    const { group, nodes } = answer as Graph;
    for (const one of nodes) {
      const hit = row
        ? one.node === Number(row[1])
        : module
          ? one.node === null && one.id === `g:${module[1]}`
          : one.node !== null && `${one.label} ${one.op} ${one.module}`.toLowerCase().includes(wanted);
      if (!hit) continue;
      total += 1;
      const where = module ? one.id.slice(2) : group;
      if (hits.length < MOST) {
        hits.push({ node: one.node, label: one.label, op: one.op, module: one.module, group: where });
      }
    }
  }
  return { hits, total };
}
