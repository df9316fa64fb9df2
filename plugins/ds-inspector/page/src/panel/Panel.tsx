// What is selected, and all that is known of it.

import type { Advice, GraphNode, Memory, Operators } from "../contract.ts";
import { amount, bytes, place, share, time } from "../format.ts";
import { useAnswer } from "../loading.tsx";
import { isEmpty, keys, matches, type Keys } from "../selection.ts";
import { recording, select, selection, show, view, type View } from "../state.ts";
import { inside } from "../graph/scene.ts";
import { About } from "./About.tsx";
import { useNode } from "./node.ts";

export function Panel() {
  const chosen = selection.value;
  return (
    <aside aria-label="Selection">
      {isEmpty(chosen) ? <About /> : <Selected chosen={chosen} />}
    </aside>
  );
}

function Selected({ chosen }: { chosen: Keys }) {
  const r = recording.value;
  const node = useNode(r, chosen);
  const operators = useAnswer<Operators>("operators", { r });
  const memory = useAnswer<Memory>("memory", { r });
  const advice = useAnswer<Advice>("advice", { r });
  const rows = operators.value ? rowsOf(operators.value, chosen) : [];
  const lives = memory.value ? livesOf(memory.value, chosen) : [];
  const findings = advice.value?.findings.filter((one) => matches(keys(one), chosen)) ?? [];
  const tensor = lives.find((one) => one.id === chosen.tensor);
  const title =
    tensor?.title ??
    (node?.node != null ? node.label : undefined) ??
    chosen.op ??
    chosen.module ??
    (chosen.source ? place(chosen.source) : undefined) ??
    (chosen.tensor === undefined ? "" : `tensor ${chosen.tensor}`);
  return (
    <>
      <div class="panel-head">
        <h2>{title}</h2>
        <button class="plain" title="Clear the selection (Escape)" onClick={() => select({})}>
          ×
        </button>
      </div>
      <div class="jumps">
        {(["graph", "flame", "memory", "operators"] as View[]).map((one) => (
          <button key={one} aria-pressed={view.value === one} onClick={() => show(one)}>
            show in {one}
          </button>
        ))}
      </div>
      <Facts chosen={chosen} node={node} tensor={tensor} />
      {operators.value && <Cost columns={operators.value.columns} rows={rows} />}
      {lives.length > 0 && <Tensors lives={lives} chosen={chosen} />}
      {findings.length > 0 && (
        <section>
          <h3>Advice</h3>
          {findings.slice(0, 4).map((one) => (
            <button key={one.id + one.module} class="line" onClick={() => show("advice")}>
              <span>{one.title}</span>
              <span class="number">{one.estimate === null ? "" : share(one.estimate)}</span>
            </button>
          ))}
        </section>
      )}
    </>
  );
}

function Facts(props: { chosen: Keys; node: GraphNode | null; tensor: Life | undefined }) {
  const { chosen, node, tensor } = props;
  const rows: [string, string, Keys?][] = [];
  const add = (name: string, value: string | undefined | null, narrowed?: Keys): void => {
    if (value) rows.push([name, value, narrowed]);
  };
  const module = chosen.module ?? tensor?.keys.module ?? node?.module;
  add("module", module, { module });
  const op = chosen.op ?? tensor?.keys.op ?? (node?.node != null ? node.op : "");
  add("operator", op, { op });
  const source = chosen.source ?? tensor?.keys.source ?? node?.source;
  add("source", source, { source });
  add("shape", tensor?.shape || node?.shape);
  add("dtype", tensor?.dtype || node?.dtype);
  if (tensor) {
    add("bytes", bytes(tensor.bytes));
    add("born", time(tensor.born));
    add("died", tensor.died === null ? "outlives the recording" : time(tensor.died));
    add("kind", tensor.kind);
  }
  if (node && node.node === null) add("inside", inside(node));
  if (node && Object.keys(node.attributes).length) {
    for (const [name, value] of Object.entries(node.attributes).slice(0, 12)) {
      add(name, (typeof value === "string" ? value : JSON.stringify(value)).slice(0, 200));
    }
  }
  return (
    <dl class="facts">
      {rows.map(([name, value, narrowed]) => (
        <>
          <dt>{name}</dt>
          <dd>
            {narrowed ? (
              <button class="link" data-key={name} title="Select only this" onClick={() => select(keys(narrowed))}>
                {value}
              </button>
            ) : (
              value
            )}
          </dd>
        </>
      ))}
    </dl>
  );
}

function rowsOf({ columns }: Operators, chosen: Keys): number[] {
  const found: number[] = [];
  for (let row = 0; row < columns.op.length; row += 1) {
    const item = keys({
      op: columns.op[row],
      module: columns.module[row],
      source: columns.source[row],
      node: columns.node[row],
    });
    if (matches(item, chosen)) found.push(row);
  }
  return found;
}

function Cost({ columns, rows }: { columns: Operators["columns"]; rows: number[] }) {
  if (!rows.length) return null;
  const sum = (column: (number | null)[]): number | null => {
    const known = rows.map((row) => column[row]).filter((value) => value != null);
    return known.length ? known.reduce((one, other) => one + other, 0) : null;
  };
  const seconds = sum(columns.seconds);
  const all = columns.seconds.reduce<number>((one, other) => one + (other ?? 0), 0);
  const flops = sum(columns.flops);
  const phases = new Map<string, number>();
  for (const row of rows) {
    const name = columns.phase[row] || "other";
    phases.set(name, (phases.get(name) ?? 0) + (columns.seconds[row] ?? 0));
  }
  return (
    <section>
      <h3>Time</h3>
      <dl class="facts figures">
        <dt>self</dt>
        <dd>
          {time(seconds)} <span class="muted">{share(seconds === null || !all ? null : seconds / all)}</span>
        </dd>
        <dt>calls</dt>
        <dd>{sum(columns.calls)?.toLocaleString("en")}</dd>
        {flops !== null && flops > 0 && (
          <>
            <dt>work</dt>
            <dd>{amount(flops, "FLOP")}</dd>
            {seconds ? (
              <>
                <dt>rate</dt>
                <dd>{amount(flops / seconds, "FLOP/s")}</dd>
              </>
            ) : null}
          </>
        )}
        {[...phases].filter(([, value]) => value > 0).map(([name, value]) => (
          <>
            <dt>{name}</dt>
            <dd>{time(value)}</dd>
          </>
        ))}
      </dl>
    </section>
  );
}

interface Life {
  id: number;
  title: string;
  kind: string;
  bytes: number;
  born: number;
  died: number | null;
  shape: string;
  dtype: string;
  keys: Keys;
}

function livesOf({ lives }: Memory, chosen: Keys): Life[] {
  const found: Life[] = [];
  for (let row = 0; row < lives.id.length; row += 1) {
    const item = keys({
      tensor: lives.id[row],
      op: lives.op[row],
      module: lives.module[row],
      source: lives.source[row],
      node: lives.node[row],
    });
    if (!matches(item, chosen)) continue;
    found.push({
      id: lives.id[row]!,
      title: lives.name[row] || lives.op[row] || `tensor ${lives.id[row]}`,
      kind: lives.kind[row]!,
      bytes: lives.bytes[row]!,
      born: lives.born[row]!,
      died: lives.died[row]!,
      shape: lives.shape[row]!,
      dtype: lives.dtype[row]!,
      keys: item,
    });
  }
  return found.sort((one, other) => other.bytes - one.bytes);
}

function Tensors({ lives, chosen }: { lives: Life[]; chosen: Keys }) {
  const total = lives.reduce((sum, one) => sum + one.bytes, 0);
  return (
    <section>
      <h3>
        Tensors
        <span class="muted">
          {lives.length.toLocaleString("en")} · {bytes(total)}
        </span>
      </h3>
      {lives.slice(0, 12).map((one) => (
        <button
          key={one.id}
          class="line tensor"
          aria-pressed={chosen.tensor === one.id}
          title={`${one.kind} ${one.shape} ${one.dtype}`}
          onClick={() => select(one.keys)}
        >
          <i class={`kind kind-${one.kind}`} />
          <span>
            {one.title} <span class="muted">{one.shape}</span>
          </span>
          <span class="number">{bytes(one.bytes)}</span>
        </button>
      ))}
    </section>
  );
}
