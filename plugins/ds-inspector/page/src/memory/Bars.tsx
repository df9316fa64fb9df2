// A bar for each tensor's life.

import { useEffect, useRef, useState } from "preact/hooks";
import { prepare, usePainter, useSize, useTheme } from "../canvas.ts";
import { bytes, place, time } from "../format.ts";
import { reveal, select, selection } from "../state.ts";
import { Tip } from "../Tip.tsx";
import type { Life } from "./model.ts";
import { ROW, bars } from "./paint.ts";

export function Bars(props: {
  lives: Life[];
  window: [number, number];
  chosen: Set<number>;
  hits: Set<number> | null;
  moment: number | null;
}) {
  const { lives, window } = props;
  const holder = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(holder);
  const [hover, setHover] = useState<{ row: number; x: number; y: number } | null>(null);

  const repaint = usePainter(() => {
    const context = canvas.current && prepare(canvas.current, size);
    if (!context || !holder.current) return;
    const axis = { from: window[0], to: window[1], width: size.width };
    bars(context, lives, axis, size.height, holder.current.scrollTop, {
      chosen: props.chosen,
      hits: props.hits,
      hover: hover?.row ?? -1,
      moment: props.moment,
    });
    canvas.current!.dataset.painted = String(lives.length);
    canvas.current!.dataset.chosen = String(props.chosen.size);
  });
  useTheme(repaint);
  useEffect(repaint, [size.width, size.height, lives, window[0], window[1], props.chosen, props.hits, hover, props.moment]);

  // What is selected comes into sight.
  useEffect(() => {
    const box = holder.current;
    if (!box || !props.chosen.size) return;
    const wanted = selection.value.tensor;
    const row = lives.findIndex((one) =>
      wanted === undefined ? props.chosen.has(one.id) : one.id === wanted,
    );
    if (row < 0) return;
    const y = row * ROW;
    if (y < box.scrollTop || y + ROW > box.scrollTop + box.clientHeight) {
      box.scrollTop = Math.max(0, y - box.clientHeight / 2);
    }
  }, [props.chosen, reveal.value, size.height > 0]);

  const life = hover ? lives[hover.row] : undefined;
  return (
    <div class="stage">
      <div class="bars" ref={holder} onScroll={repaint}>
      <div class="bars-room" style={{ height: `${lives.length * ROW}px` }}>
        <canvas
          ref={canvas}
          class="bars-canvas"
          tabIndex={0}
          role="img"
          aria-label="Lifetimes of tensors; arrow keys move"
          onPointerMove={(event) => {
            const row = Math.floor((event.offsetY + holder.current!.scrollTop) / ROW);
            setHover(row < lives.length ? { row, x: event.offsetX, y: event.offsetY } : null);
          }}
          onPointerLeave={() => setHover(null)}
          onClick={(event) => {
            const row = Math.floor((event.offsetY + holder.current!.scrollTop) / ROW);
            select(lives[row]?.keys ?? {});
          }}
        />
        </div>
      </div>
      {hover && life && (
          <Tip
            title={life.title}
            x={hover.x}
            y={hover.y}
            box={size}
            rows={[
              ["bytes", bytes(life.bytes)],
              ["kind", life.kind],
              ["lives", `${time(life.born)} to ${Number.isFinite(life.died) ? time(life.died) : "the end"}`],
              ...([
                ["made by", life.op],
                ["module", life.module],
                ["shape", [life.shape, life.dtype].filter(Boolean).join("  ")],
                ["phase", life.phase],
                ["source", place(life.source)],
              ].filter(([, value]) => value) as [string, string][]),
            ]}
          />
      )}
    </div>
  );
}
