import { render } from "preact";
import { App } from "./App.tsx";
import { warm } from "./graph/layout.ts";
import { start } from "./keyboard.ts";
import { follow } from "./state.ts";

// It takes longest to come.
void warm().catch(() => undefined);
follow();
start();
render(<App />, document.getElementById("app")!);
