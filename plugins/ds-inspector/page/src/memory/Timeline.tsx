// Live bytes by kind; a window is chosen by dragging.

import { useEffect, useRef, useState } from "preact/hooks";
import { prepare, usePainter, useSize, useTheme } from "../canvas.ts";
import type { Memory } from "../contract.ts";
import { bytes, time } from "../format.ts";
import { span } from "../state.ts";
import { Tip } from "../Tip.tsx";
import { at, most, whole } from "./model.ts";
import { GUTTER, overview, timeline, toTime, type Axis } from "./paint.ts";

export function Timeline(props: {
  all: Memory;
  shown: Memory;
  window: [number, number];
  narrowed: boolean;
  top: number;
  steps: number[];
  peak: number;
  moment: number | null;
  onMoment: (seconds: number | null) => void;
}) {
  const { all, shown, window } = props;
  const holder = useRef<HTMLDivElement>(null);
  const strip = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const small = useRef<HTMLCanvasElement>(null);
  const size = useSize(holder);
  const stripSize = useSize(strip);
  const [hover, setHover] = useState<{ x: number; y: number } | null>(null);
  const [drag, setDrag] = useState<[number, number] | null>(null);
  const axis: Axis = { from: window[0], to: window[1], width: size.width };
  const wide: Axis = { from: whole(all)[0], to: whole(all)[1], width: stripSize.width };

  const repaint = usePainter(() => {
    const context = canvas.current && prepare(canvas.current, size);
    if (context) {
      timeline(context, shown, axis, size.height, props.top, props.steps, {
        hover: hover ? toTime(axis, hover.x) : props.moment,
        drag,
        peak: props.peak,
      });
      canvas.current!.dataset.painted = String(shown.time.length);
    }
    const below = small.current && prepare(small.current, stripSize);
    if (below) overview(below, all, wide, stripSize.height, most(all), props.narrowed ? window : null);
  });
  useTheme(repaint);
  useEffect(repaint, [size.width, size.height, stripSize.width, shown, window[0], window[1], hover, drag, props.peak, props.moment, props.steps]);

  const start = useRef<number | null>(null);
  const inside = (x: number): number =>
    Math.min(window[1], Math.max(window[0], toTime(axis, x)));

  return (
    <>
      <div class="stage timeline" ref={holder}>
        <canvas
          ref={canvas}
          class="timeline-canvas"
          role="img"
          aria-label="Live bytes over time; drag to choose a window"
          onPointerDown={(event) => {
            start.current = inside(event.offsetX);
            event.currentTarget.setPointerCapture(event.pointerId);
          }}
          onPointerMove={(event) => {
            setHover(event.offsetX < GUTTER ? null : { x: event.offsetX, y: event.offsetY });
            if (start.current !== null) setDrag([start.current, inside(event.offsetX)]);
          }}
          onPointerLeave={() => setHover(null)}
          onPointerUp={(event) => {
            const from = start.current;
            start.current = null;
            setDrag(null);
            if (from === null) return;
            const to = inside(event.offsetX);
            if (Math.abs(to - from) > (window[1] - window[0]) * 0.008) {
              span.value = from < to ? [from, to] : [to, from];
              props.onMoment(null);
            } else {
              props.onMoment(to);
            }
          }}
        />
        {hover && !drag && <Values memory={shown} seconds={inside(hover.x)} at={hover} box={size} />}
      </div>
      <div class="stage strip" ref={strip} hidden={!props.narrowed}>
        <canvas
          ref={small}
          onPointerDown={(event) => {
            if (!props.narrowed) return;
            const half = (window[1] - window[0]) / 2;
            const middle = Math.min(wide.to - half, Math.max(wide.from + half, toTime(wide, event.offsetX)));
            span.value = [middle - half, middle + half];
          }}
        />
      </div>
    </>
  );
}

function Values(props: {
  memory: Memory;
  seconds: number;
  at: { x: number; y: number };
  box: { width: number; height: number };
}) {
  const values = at(props.memory, props.seconds);
  const sum = values.reduce((total, [, value]) => total + value, 0);
  const rows = values
    .filter(([, value]) => value > 0)
    .map(([kind, value]): [string, string] => [kind, bytes(value)])
    .toReversed();
  return (
    <Tip
      title={`${bytes(sum)} at ${time(props.seconds)}`}
      rows={rows}
      x={props.at.x}
      y={props.at.y}
      box={props.box}
    />
  );
}
