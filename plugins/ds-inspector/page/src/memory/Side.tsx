// Peaks with their tensors, and what passes would save.

import type { Memory } from "../contract.ts";
import { bytes, place, time } from "../format.ts";
import { select, selection } from "../state.ts";
import type { Life } from "./model.ts";

export function Side(props: {
  memory: Memory;
  lives: Life[];
  peak: number;
  onPeak: (index: number) => void;
  moment: number | null;
}) {
  const { memory, lives, moment } = props;
  const byId = new Map(lives.map((one) => [one.id, one]));
  const then =
    moment === null ? [] : lives.filter((one) => one.born <= moment && one.died > moment);
  then.sort((one, other) => other.bytes - one.bytes);
  return (
    <div class="side">
      {moment !== null && (
        <section>
          <h3>
            At {time(moment)}
            <span class="muted">{then.length.toLocaleString("en")} tensors</span>
          </h3>
          <Tensors lives={then.slice(0, 14)} />
        </section>
      )}
      <section>
        <h3>Peaks</h3>
        {memory.peaks.map((peak, index) => (
          <div key={index}>
            <button class="line peak" aria-expanded={props.peak === index} onClick={() => props.onPeak(index)}>
              <span>
                <b>{index + 1}</b> {time(peak.time)}
              </span>
              <span class="number">{bytes(peak.bytes)}</span>
            </button>
            {props.peak === index && (
              <Tensors
                lives={peak.tensors.map((id) => byId.get(id)).filter((one) => one !== undefined).slice(0, 14)}
              />
            )}
          </div>
        ))}
        {memory.peaks.length === 0 && <p class="muted">There are none in this window.</p>}
      </section>
      <section>
        <h3>What would be saved</h3>
        {memory.would_save.map((one, index) => (
          <div class="saving" key={index}>
            <div class="line">
              <span>
                <b>{one.pass}</b>
              </span>
              <span class="number">−{bytes(one.bytes)}</span>
            </div>
            <p class="muted">{one.how}</p>
          </div>
        ))}
        {memory.would_save.length === 0 && <p class="muted">Nothing that is known.</p>}
      </section>
    </div>
  );
}

function Tensors({ lives }: { lives: Life[] }) {
  const most = lives[0]?.bytes ?? 1;
  return (
    <div class="tensors">
      {lives.map((one) => (
        <button
          key={one.id}
          class="line tensor"
          aria-pressed={selection.value.tensor === one.id}
          title={[one.kind, one.module, place(one.source)].filter(Boolean).join(", ")}
          onClick={() => select(one.keys)}
        >
          <i class={`kind kind-${one.kind}`} style={{ width: `${3 + (27 * one.bytes) / most}px` }} />
          <span>
            {one.title} <span class="muted">{one.shape}</span>
          </span>
          <span class="number">{bytes(one.bytes)}</span>
        </button>
      ))}
    </div>
  );
}
