import { AdviceView } from "./advice/AdviceView.tsx";
import { DifferenceView } from "./advice/DifferenceView.tsx";
import type { Session, Summary } from "./contract.ts";
import { FlameView } from "./flame/FlameView.tsx";
import { amount, bytes, time } from "./format.ts";
import { GraphView } from "./graph/GraphView.tsx";
import { Help } from "./Help.tsx";
import { shown } from "./keyboard.ts";
import { LiveView } from "./live/LiveView.tsx";
import { Message, useAnswer } from "./loading.tsx";
import { MemoryView } from "./memory/MemoryView.tsx";
import { OperatorsView } from "./operators/OperatorsView.tsx";
import { Panel } from "./panel/Panel.tsx";
import { Search } from "./Search.tsx";
import { recording, show, view, type View } from "./state.ts";

const NAMES: Record<View, string> = {
  graph: "Graph",
  flame: "Flame",
  memory: "Memory",
  operators: "Operators",
  advice: "Advice",
  difference: "Difference",
  live: "Live",
};

const SHOWN: Record<View, () => preact.JSX.Element> = {
  graph: GraphView,
  flame: FlameView,
  memory: MemoryView,
  operators: OperatorsView,
  advice: AdviceView,
  difference: DifferenceView,
  live: LiveView,
};

export function App() {
  const session = useAnswer<Session>("session");
  const count = session.value?.recordings.length ?? 0;
  const views = available(session.value);
  shown.value = views;
  const current = views.includes(view.value) ? view.value : (views[0] ?? "graph");
  if (session.value) document.title = `${session.value.title} – ds-inspector`;
  const Shown = SHOWN[current];
  return (
    <>
      <header>
        <div class="title">
          <b>{session.value?.title ?? "…"}</b>
          {count > 0 && <Totals />}
        </div>
        {count > 1 && <Which names={session.value!.recordings} />}
        <Tabs views={views} current={current} />
        {count > 0 && <Search />}
      </header>
      <main>
        {session.error && <Message>{session.error}</Message>}
        {!session.value && !session.error && <Message>Opening…</Message>}
        {session.value && <Shown key={current} />}
        {count > 0 && <Panel />}
      </main>
      <Help />
    </>
  );
}

function available(session: Session | null): View[] {
  if (!session) return ["graph", "flame", "memory", "operators", "advice"];
  const views: View[] = session.recordings.length
    ? ["graph", "flame", "memory", "operators", "advice"]
    : [];
  if (session.recordings.length > 1) views.push("difference");
  if (session.live) views.push("live");
  return views;
}

function Tabs({ views, current }: { views: View[]; current: View }) {
  return (
    <nav class="tabs" role="tablist">
      {views.map((one) => (
        <button key={one} role="tab" aria-selected={one === current} onClick={() => show(one)}>
          {NAMES[one]}
        </button>
      ))}
    </nav>
  );
}

function Totals() {
  const { value } = useAnswer<Summary>("summary", { r: recording.value });
  if (!value) return null;
  const spans = value.steps.start.map((start, index) => value.steps.end[index]! - start);
  const middle = spans.toSorted((one, other) => one - other)[Math.floor(spans.length / 2)];
  const parts = [
    middle !== undefined && `${time(middle)} a step`,
    value.totals.peak_bytes ? `peak ${bytes(value.totals.peak_bytes)}` : "",
    value.totals.nodes ? `${amount(value.totals.nodes)} nodes` : "",
  ];
  return <span class="totals">{parts.filter(Boolean).join("   ")}</span>;
}

function Which({ names }: { names: string[] }) {
  return (
    <div class="segments" role="group" aria-label="Recording">
      {["after", "before"].map((one, index) => (
        <button
          key={one}
          title={names[index]}
          aria-pressed={recording.value === index}
          onClick={() => (recording.value = index)}
        >
          {one}
        </button>
      ))}
    </div>
  );
}
