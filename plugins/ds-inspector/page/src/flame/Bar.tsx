// What the flame graph is of.

import type { Summary } from "../contract.ts";
import { share, signed, time } from "../format.ts";
import { useAnswer } from "../loading.tsx";
import { against, by, inverted, phase, query, recording, step, type By } from "../state.ts";
import { Scale } from "../Scale.tsx";
import type { Model } from "./model.ts";

const PHASES = ["forward", "backward", "optimizer"];

export function Bar({ model, hits }: { model: Model | null; hits: { seconds: number } | null }) {
  const { value } = useAnswer<Summary>("summary", { r: recording.value });
  const phases = PHASES.filter((one) => (value?.phases[one] ?? 0) > 0);
  const steps = value?.steps.start.length ?? 0;
  const all = model?.flame.total ?? 0;
  return (
    <div class="toolbar">
      <div class="segments" role="group" aria-label="By">
        {(["module", "operator", "source"] as By[]).map((one) => (
          <button key={one} aria-pressed={by.value === one} onClick={() => (by.value = one)}>
            {one}
          </button>
        ))}
      </div>
      {phases.length > 1 && (
        <div class="segments" role="group" aria-label="Phase">
          {["all", ...phases].map((one) => (
            <button key={one} aria-pressed={phase.value === one} onClick={() => (phase.value = one)}>
              {one}
            </button>
          ))}
        </div>
      )}
      {steps > 1 && (
        <label>
          step{" "}
          <select value={step.value} onChange={(event) => (step.value = event.currentTarget.value)}>
            <option value="all">all {steps}</option>
            {Array.from({ length: Math.min(steps, 500) }, (_, index) => (
              <option key={index} value={String(index)}>
                {index}
              </option>
            ))}
          </select>
        </label>
      )}
      <button
        class="toggle"
        aria-pressed={inverted.value}
        title="Leaves first, and below them what called them (i)"
        onClick={() => (inverted.value = !inverted.value)}
      >
        inverted
      </button>
      {(value?.count ?? 0) > 1 && (
        <button
          class="toggle"
          aria-pressed={against.value}
          title="Colours say what became slower or faster (d)"
          onClick={() => (against.value = !against.value)}
        >
          difference
        </button>
      )}
      <span class="spring" />
      {model?.changed && <Change model={model} />}
      {hits && (
        <span class="note found" role="status">
          “{query.value}” {time(hits.seconds)} = {share(all ? hits.seconds / all : 0)}
        </span>
      )}
      {model && (
        <span class="note">
          {time(all)}
          {model.flame.omitted > all * 1e-4 && `, ${time(model.flame.omitted)} of it too narrow to send`}
        </span>
      )}
    </div>
  );
}

function Change({ model }: { model: Model }) {
  let seconds = 0;
  for (const frame of model.rows[0] ?? []) seconds += model.flame.frames.change[frame] ?? 0;
  return (
    <span class="note change">
      <Scale name="change" low="faster" high="slower" />
      {signed(seconds)} in all
    </span>
  );
}
