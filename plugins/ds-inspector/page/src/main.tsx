import { render } from "preact";
import { App } from "./App.tsx";
import type { Session } from "./contract.ts";
import { get } from "./data.ts";
import { warm } from "./graph/layout.ts";
import { start } from "./keyboard.ts";
import { follow, view } from "./state.ts";

const asked = new URLSearchParams(location.hash.slice(1)).has("view");
follow();
start();
// Where there is no answer, the page says so.
const session = await get<Session>("session").catch(() => null);
if (session && !asked) view.value = session.view;
// The worker takes longest to come.
if (view.value === "graph") void warm().catch(() => undefined);
render(<App />, document.getElementById("app")!);
