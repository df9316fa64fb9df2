import { render } from "preact";
import { App } from "./App.tsx";
import type { Session } from "./contract.ts";
import { get } from "./data.ts";
import { warm } from "./graph/layout.ts";
import { start } from "./keyboard.ts";
import { first } from "./questions.ts";
import { follow, view } from "./state.ts";

const asked = new URLSearchParams(location.hash.slice(1)).has("view");
follow();
start();
const begun = view.value;
// Before the page asks for it by itself: what it shows first, then the worker, which takes longest.
if (asked) first();
get<Session>("session").then(
  ({ view: best, recordings }) => {
    if (!asked && view.value === begun) view.value = best;
    if (recordings.length) first();
    if (view.value === "graph") void warm().catch(() => undefined);
  },
  () => undefined, // The page says so.
);
render(<App />, document.getElementById("app")!);
