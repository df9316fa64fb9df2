// Keys: those of the page, and those of the view that is shown.

import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { isEmpty } from "./selection.ts";
import { query, selection, show, type View } from "./state.ts";

export const helping = signal(false);
export const shown = signal<View[]>([]);

type Handler = (event: KeyboardEvent) => boolean;
let current: Handler | null = null;

/** Give keys to a view while it is shown. */
export function useKeys(handler: Handler): void {
  const latest = useRef(handler);
  latest.current = handler;
  // Not after the next paint: keys may come faster.
  useLayoutEffect(() => {
    const mine: Handler = (event) => latest.current(event);
    current = mine;
    return () => {
      if (current === mine) current = null;
    };
  }, []);
}

export const HELP: [string, string][] = [
  ["1 – 7", "graph, flame, memory, operators, advice, difference, live"],
  ["/", "search; Enter goes to the first hit"],
  ["← ↑ → ↓", "go to what is beside, above or below"],
  ["Enter", "graph: open or close a group · flame: zoom in · elsewhere: select"],
  ["Shift Enter", "graph: look at the group alone"],
  ["Backspace", "graph: to the group around · flame: zoom out"],
  ["+  −  0", "zoom in, zoom out, show all"],
  ["i  d", "flame: inverted, difference"],
  ["Escape", "close, clear the search, clear the selection"],
  ["?", "this help"],
];

export function start(): void {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target as HTMLElement;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
    if (event.key === "Escape") {
      escape(event, target, typing);
      return;
    }
    if (typing) return;
    if (event.key === "?") helping.value = !helping.value;
    else if (event.key === "/") focusSearch();
    else if (/^[1-7]$/.test(event.key)) {
      const order: View[] = ["graph", "flame", "memory", "operators", "advice", "difference", "live"];
      const wanted = order[Number(event.key) - 1]!;
      if (!shown.value.includes(wanted)) return;
      show(wanted);
    } else if (/^(BUTTON|A)$/.test(target.tagName) && (event.key === "Enter" || event.key === " ")) {
      return;
    } else if (!current?.(event)) return;
    event.preventDefault();
  });
}

function escape(event: KeyboardEvent, target: HTMLElement, typing: boolean): void {
  event.preventDefault();
  if (helping.value) helping.value = false;
  else if (typing && target.id !== "search") target.blur();
  else if (query.value) query.value = "";
  else if (typing) target.blur();
  else if (current?.(event)) return;
  else if (!isEmpty(selection.value)) selection.value = {};
}

export function focusSearch(): void {
  const field = document.getElementById("search") as HTMLInputElement | null;
  field?.focus();
  field?.select();
}
