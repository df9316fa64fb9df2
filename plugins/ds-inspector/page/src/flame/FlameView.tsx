// The flame graph.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { prepare, usePainter, useSize, useTheme } from "../canvas.ts";
import type { Flame } from "../contract.ts";
import { place, share, signed, time } from "../format.ts";
import { useKeys } from "../keyboard.ts";
import { Message, useAnswer, Waiting } from "../loading.tsx";
import { flameQuery } from "../questions.ts";
import { isEmpty } from "../selection.ts";
import * as state from "../state.ts";
import { Tip } from "../Tip.tsx";
import { Bar } from "./Bar.tsx";
import { at, children, chosen, found, keysOf, model as build, nameOf, total, type Model } from "./model.ts";
import { ROW, paint, type Window } from "./paint.ts";

export function FlameView() {
  const { by, phase, query, selection, reveal } = state;
  const answer = useAnswer<Flame>("flame", flameQuery());
  const model = useMemo(() => (answer.value ? build(answer.value) : null), [answer.value]);
  const marked = useMemo(
    () => (model && query.value ? found(model, query.value) : null),
    [model, query.value],
  );
  return (
    <div class="view flame">
      <Bar
        model={model}
        hits={model && marked ? { seconds: total(model, marked) } : null}
      />
      {!model ? (
        <Waiting answer={answer} />
      ) : model.count === 0 ? (
        <Message>No time was recorded{phase.value === "all" ? "" : ` in ${phase.value}`}.</Message>
      ) : (
        <Stage
          model={model}
          marked={marked}
          selection={selection.value}
          reveal={reveal.value}
          sources={by.value === "source"}
        />
      )}
    </div>
  );
}

function Stage(props: {
  model: Model;
  marked: Uint8Array | null;
  selection: state.Chosen;
  reveal: number;
  sources: boolean;
}) {
  const { model, marked, selection } = props;
  const holder = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(holder);
  const [zoomed, setZoomed] = useState(-1);
  const [cursor, setCursor] = useState(-1);
  const [hover, setHover] = useState<{ frame: number; x: number; y: number } | null>(null);
  const scroll = useRef(0);
  const window = useRef<Window>({ from: 0, to: 1 });
  const moving = useRef(0);

  const picked = useMemo(() => chosen(model, selection), [model, selection]);
  const any = useMemo(() => picked.includes(1), [picked]);

  const repaint = usePainter(() => {
    const context = canvas.current && prepare(canvas.current, size);
    if (!context) return;
    paint(context, model, size, {
      window: window.current,
      scroll: scroll.current,
      zoomed,
      cursor,
      hover: hover?.frame ?? -1,
      chosen: picked,
      found: marked,
      anyChosen: any,
      sources: props.sources,
    });
    canvas.current!.dataset.painted = String(model.count);
    canvas.current!.dataset.chosen = String(picked.reduce((sum, one) => sum + one, 0));
  });
  useTheme(repaint);
  useEffect(repaint, [size.width, size.height, zoomed, cursor, hover, picked, marked]);

  const whole: Window = { from: 0, to: model.flame.total || 1 };
  useEffect(() => {
    window.current = whole;
    setZoomed(-1);
    setCursor(-1);
    setHover(null);
    scroll.current = 0;
    repaint();
  }, [model]);

  function zoom(frame: number): void {
    setZoomed(frame);
    const to =
      frame < 0
        ? whole
        : { from: model.start[frame]!, to: model.start[frame]! + model.value[frame]! };
    const top = frame < 0 ? 0 : Math.max(0, (model.depth[frame]! - 3) * ROW);
    const from = { ...window.current };
    const low = scroll.current;
    const high = limited(top);
    const begin = performance.now();
    cancelAnimationFrame(moving.current);
    const quick = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const frameOf = (now: number): void => {
      const part = quick ? 1 : Math.min(1, (now - begin) / 160);
      const eased = 1 - (1 - part) ** 3;
      window.current = {
        from: from.from + (to.from - from.from) * eased,
        to: from.to + (to.to - from.to) * eased,
      };
      scroll.current = low + (high - low) * eased;
      repaint();
      if (part < 1) moving.current = requestAnimationFrame(frameOf);
    };
    moving.current = requestAnimationFrame(frameOf);
  }

  function limited(top: number): number {
    return Math.max(0, Math.min(top, model.rows.length * ROW - size.height + 8));
  }

  function choose(frame: number): void {
    setCursor(frame);
    state.select(keysOf(model, frame));
    const y = model.depth[frame]! * ROW;
    if (y < scroll.current || y + ROW > scroll.current + size.height) {
      scroll.current = limited(y - size.height / 2);
    }
  }

  // The widest frame that is selected comes into sight.
  useEffect(() => {
    if (!props.reveal || !any || !size.width) return;
    let best = -1;
    for (let frame = 0; frame < model.count; frame += 1) {
      if (picked[frame] && (best < 0 || model.value[frame]! > model.value[best]!)) best = frame;
    }
    setCursor(best);
    const narrow = (model.value[best]! / (whole.to || 1)) * size.width < 40;
    if (narrow) {
      let above = best;
      while (model.parent[above]! >= 0 && model.value[above]! < model.value[best]! * 12) above = model.parent[above]!;
      zoom(above);
    }
    const y = model.depth[best]! * ROW;
    if (y + ROW > size.height) scroll.current = limited(y - size.height / 2);
    repaint();
  }, [props.reveal, model, size.width > 0]);

  useKeys((event) => {
    const here = cursor >= 0 ? cursor : picked.indexOf(1);
    switch (event.key) {
      case "ArrowUp":
        if (here >= 0 && model.parent[here]! >= 0) choose(model.parent[here]!);
        return true;
      case "ArrowDown": {
        const below = children(model, here);
        if (below.length) choose(below.reduce((one, other) => (model.value[other]! > model.value[one]! ? other : one)));
        return true;
      }
      case "ArrowLeft":
      case "ArrowRight": {
        if (here < 0) return true;
        const row = model.rows[model.depth[here]!]!;
        const next = row[row.indexOf(here) + (event.key === "ArrowRight" ? 1 : -1)];
        if (next !== undefined) choose(next);
        return true;
      }
      case "Enter":
        if (here >= 0) zoom(here);
        return true;
      case "Backspace":
      case "-":
        zoom(zoomed >= 0 ? model.parent[zoomed]! : -1);
        return true;
      case "0":
        zoom(-1);
        return true;
      case "Escape":
        if (zoomed < 0) return false;
        zoom(-1);
        return true;
      case "i":
        state.inverted.value = !state.inverted.value;
        return true;
      case "d":
        state.against.value = !state.against.value;
        return true;
      default:
        return false;
    }
  });

  function under(event: MouseEvent): number {
    const { from, to } = window.current;
    const depth = Math.floor((event.offsetY + scroll.current) / ROW);
    return at(model, depth, from + (event.offsetX / size.width) * (to - from));
  }

  useEffect(() => {
    const target = canvas.current!;
    const wheel = (event: WheelEvent): void => {
      event.preventDefault();
      const { from, to } = window.current;
      if (event.ctrlKey) {
        const factor = Math.exp(event.deltaY * 0.004);
        const centre = from + (event.offsetX / size.width) * (to - from);
        const wide = Math.min(whole.to, (to - from) * factor);
        const left = Math.max(0, Math.min(whole.to - wide, centre - (centre - from) * (wide / (to - from))));
        window.current = { from: left, to: left + wide };
      } else {
        scroll.current = limited(scroll.current + event.deltaY);
        const move = ((event.deltaX || 0) / size.width) * (to - from);
        const left = Math.max(0, Math.min(whole.to - (to - from), from + move));
        window.current = { from: left, to: left + (to - from) };
      }
      repaint();
    };
    target.addEventListener("wheel", wheel, { passive: false });
    return () => target.removeEventListener("wheel", wheel);
  }, [model, size]);

  return (
    <div class="stage" ref={holder}>
      <canvas
        ref={canvas}
        class="flame-canvas"
        tabIndex={0}
        role="img"
        aria-label="Flame graph; arrow keys move, Enter zooms in"
        onPointerMove={(event) => {
          const frame = under(event);
          setHover(frame < 0 ? null : { frame, x: event.offsetX, y: event.offsetY });
        }}
        onPointerLeave={() => setHover(null)}
        onClick={(event) => {
          const frame = under(event);
          if (frame < 0) {
            if (!isEmpty(selection)) state.select({});
            return;
          }
          choose(frame);
          zoom(frame);
        }}
      />
      {hover && <FrameTip model={model} frame={hover.frame} x={hover.x} y={hover.y} box={size} />}
    </div>
  );
}

function FrameTip(props: {
  model: Model;
  frame: number;
  x: number;
  y: number;
  box: { width: number; height: number };
}) {
  const { model, frame } = props;
  const { frames, names, total: all } = model.flame;
  const rows: [string, string][] = [
    ["total", `${time(model.value[frame])}  ${share(model.value[frame]! / all)}`],
    ["self", `${time(frames.self[frame])}  ${share(frames.self[frame]! / all)}`],
  ];
  const change = frames.change[frame];
  if (model.changed) rows.push(["more than before", signed(change)]);
  const module = names[frames.module[frame]!]!;
  const source = names[frames.source[frame]!]!;
  if (module) rows.push(["module", module]);
  if (source) rows.push(["source", place(source)]);
  return <Tip title={nameOf(model, frame)} rows={rows} x={props.x} y={props.y} box={props.box} />;
}
