// What was recorded, while nothing is selected.

import { useEffect, useState } from "preact/hooks";
import type { Summary } from "../contract.ts";
import { leftOut } from "../data.ts";
import { amount, bytes, ratio, share, time } from "../format.ts";
import { useAnswer, Waiting } from "../loading.tsx";
import { recording } from "../state.ts";

export function About() {
  const answer = useAnswer<Summary>("summary", { r: recording.value });
  const [missing, setMissing] = useState<string[]>([]);
  useEffect(() => void leftOut().then(setMissing), []);
  if (!answer.value) return <Waiting answer={answer} />;
  const { about, totals, phases } = answer.value;
  const spent = Object.entries(phases).filter(([, seconds]) => seconds > 0);
  const machine = Object.entries(about.machine).filter(([, value]) => value);
  const all = spent.reduce((sum, [, seconds]) => sum + seconds, 0);
  return (
    <>
      <div class="panel-head">
        <h2>{about.title}</h2>
      </div>
      {about.command && <p class="command">{about.command}</p>}
      {about.problems.length > 0 && (
        <section class="problems">
          <h3>Missing</h3>
          {about.problems.map((one) => (
            <p>{one}</p>
          ))}
        </section>
      )}
      {missing.length > 0 && (
        <section class="problems left-out">
          <h3>Left out of this file</h3>
          {missing.map((one) => (
            <p>{one}</p>
          ))}
        </section>
      )}
      <section>
        <h3>Recorded</h3>
        <dl class="facts figures">
          {totals.seconds ? [<dt>time</dt>, <dd>{time(totals.seconds)}</dd>] : null}
          {totals.unmatched_seconds
            ? [
                <dt>unmatched</dt>,
                <dd>
                  {time(totals.unmatched_seconds)}{" "}
                  <span class="muted">
                    {share(totals.seconds ? totals.unmatched_seconds / totals.seconds : null)}
                  </span>
                </dd>,
              ]
            : null}
          {totals.peak_bytes ? [<dt>peak</dt>, <dd>{bytes(totals.peak_bytes)}</dd>] : null}
          {totals.flops ? [<dt>work</dt>, <dd>{amount(totals.flops, "FLOP")}</dd>] : null}
          {(["nodes", "events", "tensors"] as const).map((one) =>
            totals[one] ? [<dt>{one}</dt>, <dd>{totals[one]!.toLocaleString("en")}</dd>] : null,
          )}
        </dl>
      </section>
      {spent.length > 0 && (
        <section>
          <h3>Phases</h3>
          {spent.map(([name, seconds]) => (
            <div class="bar" key={name}>
              <span>{name}</span>
              <i>
                <i class={`phase-${name}`} style={{ width: `${(100 * seconds) / all}%` }} />
              </i>
              <span class="number">{time(seconds)}</span>
            </div>
          ))}
        </section>
      )}
      {about.collectors.length > 0 && (
        <section>
          <h3>What recording cost</h3>
          <dl class="facts figures">
            {about.collectors.map((one) => (
              <>
                <dt title={one.note}>{one.name}</dt>
                <dd>{one.overhead === null ? one.note || "not measured" : `${ratio(one.overhead)} a step`}</dd>
              </>
            ))}
          </dl>
        </section>
      )}
      {(machine.length > 0 || about.created) && (
        <section>
          <h3>Machine</h3>
          <dl class="facts">
            {machine.map(([name, value]) => (
              <>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </>
            ))}
            {about.created && [<dt>recorded</dt>, <dd>{about.created.replace("T", " ").slice(0, 19)}</dd>]}
            {about.passes.length > 0 && [<dt>passes</dt>, <dd>{about.passes.join(", ")}</dd>]}
          </dl>
        </section>
      )}
    </>
  );
}
