// What changed between two recordings, with the confidence of repeated steps.

import { useState } from "preact/hooks";
import type { Change, Difference, Spread } from "../contract.ts";
import { ratio, signed, time } from "../format.ts";
import { useAnswer, Waiting } from "../loading.tsx";
import { isEmpty, keys, matches } from "../selection.ts";
import { query, select, selection } from "../state.ts";

export function DifferenceView() {
  const answer = useAnswer<Difference>("difference");
  const [asked, setAll] = useState<boolean | null>(null);
  if (!answer.value) return <Waiting answer={answer} />;
  const { steps, modules, operators, problems } = answer.value;
  const all = asked ?? ![...modules, ...operators].some((one) => one.sure);
  return (
    <div class="view difference">
      <div class="scrolling">
        <div class="verdict">
          <Steps name="before" spread={steps.before} />
          <Steps name="after" spread={steps.after} />
          <div>
            <span class="muted">after / before</span>
            <b class={tone(steps.low, steps.high)}>{ratio(steps.ratio)}</b>
            <span class="muted">
              {steps.low === null ? "too few steps to be sure" : `${ratio(steps.low)} to ${ratio(steps.high)}`}
            </span>
          </div>
        </div>
        {problems.length > 0 && (
          <section class="problems">
            {problems.map((one) => (
              <p>{one}</p>
            ))}
          </section>
        )}
        <label class="note">
          <input type="checkbox" checked={all} onChange={(event) => setAll(event.currentTarget.checked)} />{" "}
          also what may be chance
        </label>
        <div class="pair">
          <Changes title="Modules" rows={modules} all={all} name={(row) => row.module ?? ""} />
          <Changes title="Operators" rows={operators} all={all} name={(row) => row.op ?? ""} />
        </div>
      </div>
    </div>
  );
}

function tone(low: number | null, high: number | null): string {
  if (high !== null && high < 1) return "good";
  return low !== null && low > 1 ? "bad" : "";
}

function Steps({ name, spread }: { name: string; spread: Spread }) {
  return (
    <div>
      <span class="muted">a step {name}</span>
      <b>{time(spread.median)}</b>
      <span class="muted">
        {time(spread.low)} to {time(spread.high)}
      </span>
    </div>
  );
}

const MOST = 300;

function Changes(props: {
  title: string;
  rows: Change[];
  all: boolean;
  name: (row: Change) => string;
}) {
  const wanted = query.value.toLowerCase();
  const rows = props.rows
    .filter((row) => (props.all || row.sure) && props.name(row).toLowerCase().includes(wanted))
    .sort((one, other) => Math.abs(other.change ?? 0) - Math.abs(one.change ?? 0));
  const intervals = rows.some((row) => row.low !== null);
  const most = Math.max(1e-12, ...rows.map((row) => Math.abs(row.change ?? 0)));
  return (
    <section>
      <h3>
        {props.title}
        <span class="muted">
          {rows.length} of {props.rows.length}
        </span>
      </h3>
      <table class="changes">
        <thead>
          <tr>
            <th>name</th>
            <th class="number">before</th>
            <th class="number">after</th>
            <th class="number">change</th>
            {intervals && <th class="number">95 % from</th>}
            {intervals && <th class="number">to</th>}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, MOST).map((row) => {
            const where = keys(row);
            const chosen = !isEmpty(selection.value) && matches(where, selection.value);
            const change = row.change ?? 0;
            return (
              <tr
                key={props.name(row)}
                aria-selected={chosen}
                class={row.sure ? "" : "unsure"}
                onClick={() => select(where)}
              >
                <td title={props.name(row)}>
                  <i
                    class={`meter ${change > 0 ? "slower" : "faster"}`}
                    style={{ width: `${(100 * Math.abs(change)) / most}%` }}
                  />
                  <span>{props.name(row) || "(all)"}</span>
                </td>
                <td class="number">{time(row.before)}</td>
                <td class="number">{time(row.after)}</td>
                <td class="number">{signed(row.change)}</td>
                {intervals && <td class="number muted">{signed(row.low)}</td>}
                {intervals && <td class="number muted">{signed(row.high)}</td>}
              </tr>
            );
          })}
        </tbody>
      </table>
      {rows.length === 0 && <p class="muted">Nothing changed that is more than chance.</p>}
    </section>
  );
}
