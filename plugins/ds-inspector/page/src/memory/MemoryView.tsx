// Live bytes over time, what makes each peak, and how long tensors live.

import { useEffect, useMemo, useState } from "preact/hooks";
import type { Memory, Summary } from "../contract.ts";
import { isInlined } from "../data.ts";
import { bytes, time } from "../format.ts";
import { useKeys } from "../keyboard.ts";
import { Message, useAnswer, Waiting } from "../loading.tsx";
import { isEmpty } from "../selection.ts";
import { query, recording, reveal, select, selection, span } from "../state.ts";
import { Bars } from "./Bars.tsx";
import { chosen, hits, livesOf, most, ordered, whole, type Order } from "./model.ts";
import { Side } from "./Side.tsx";
import { Timeline } from "./Timeline.tsx";

export function MemoryView() {
  const r = recording.value;
  const full = useAnswer<Memory>("memory", { r });
  const window = span.value;
  const part = useAnswer<Memory>(
    window && !isInlined ? "memory" : null,
    window ? { r, from: window[0], to: window[1] } : {},
  );
  if (!full.value) return <Waiting answer={full} />;
  if (!full.value.time.length) {
    return <Message>No tensors were followed in this recording, so its memory is unknown.</Message>;
  }
  const shown = window && part.value && !part.stale ? part.value : full.value;
  return <Loaded all={full.value} shown={shown} window={window} />;
}

function Loaded(props: { all: Memory; shown: Memory; window: [number, number] | null }) {
  const { all, shown } = props;
  const summary = useAnswer<Summary>("summary", { r: recording.value });
  const [order, setOrder] = useState<Order>("size");
  const [peak, setPeak] = useState(() => highest(all));
  const [moment, setMoment] = useState<number | null>(null);
  useEffect(() => setPeak(highest(shown)), [shown]);
  const window = props.window ?? whole(all);
  const known = useMemo(() => livesOf(shown.lives), [shown]);
  const lives = useMemo(() => ordered(known, order, window), [known, order, window[0], window[1]]);
  const picked = useMemo(() => chosen(lives, selection.value), [lives, selection.value]);
  const found = useMemo(() => hits(lives, query.value), [lives, query.value]);
  const top = useMemo(() => most(props.window ? shown : all), [shown, all, props.window]);

  useKeys((event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) {
      const { tensor } = selection.value;
      const here = lives.findIndex((one) =>
        tensor === undefined ? picked.has(one.id) : one.id === tensor,
      );
      const next = lives[Math.max(0, Math.min(lives.length - 1, here < 0 ? 0 : here + move))];
      if (next) select(next.keys);
      return true;
    }
    if (!["Escape", "0", "Backspace"].includes(event.key)) return false;
    if (moment !== null) setMoment(null);
    else if (span.value) span.value = null;
    else return false;
    return true;
  });

  // What is to be shown may live outside of the window.
  useEffect(() => {
    if (reveal.value && !isEmpty(selection.value) && !picked.size) span.value = null;
  }, [reveal.value]);

  const size = lives.reduce((sum, one) => sum + (found?.has(one.id) ? one.bytes : 0), 0);
  return (
    <div class="view memory">
      <div class="toolbar">
        <div class="swatches">
          {all.kinds.map((kind) => (
            <span key={kind}>
              <i class={`kind-${kind}`} />
              {kind || "unknown"}
            </span>
          ))}
          {all.usage.time.length > 0 && (
            <span>
              <i class="stroke" />
              allocator
            </span>
          )}
        </div>
        <span class="spring" />
        {found && (
          <span class="note found" role="status">
            “{query.value}” {found.size} tensors, {bytes(size)}
          </span>
        )}
        <span class="note">
          {time(window[0])} to {time(window[1])}
        </span>
        {props.window && (
          <button class="toggle" onClick={() => (span.value = null)}>
            show all
          </button>
        )}
      </div>
      <div class="columns">
        <div class="charts">
          <Timeline
            all={all}
            shown={props.window ? shown : all}
            window={window}
            narrowed={props.window !== null}
            top={top}
            steps={summary.value?.steps.start ?? []}
            peak={peak}
            moment={moment}
            onMoment={setMoment}
          />
          <div class="bars-head">
            <b>Lifetimes</b>
            <span class="muted">{lives.length.toLocaleString("en")} tensors</span>
            <span class="spring" />
            <div class="segments" role="group" aria-label="Order">
              {(["size", "birth"] as Order[]).map((one) => (
                <button key={one} aria-pressed={order === one} onClick={() => setOrder(one)}>
                  by {one}
                </button>
              ))}
            </div>
          </div>
          <Bars lives={lives} window={window} chosen={picked} hits={found} moment={moment} />
        </div>
        <Side memory={shown} lives={known} peak={peak} onPeak={setPeak} moment={moment} />
      </div>
    </div>
  );
}

function highest({ peaks }: Memory): number {
  return peaks.reduce((best, one, index) => (one.bytes > peaks[best]!.bytes ? index : best), 0);
}
