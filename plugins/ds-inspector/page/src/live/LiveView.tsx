// A running session: time of each step and memory, as they come.

import { useEffect, useRef, useState } from "preact/hooks";
import { SMALL, ink, prepare, ticks, usePainter, useSize, useTheme, type Context } from "../canvas.ts";
import type { Step } from "../contract.ts";
import { isInlined } from "../data.ts";
import { amount, bytes, time } from "../format.ts";
import { Message } from "../loading.tsx";

const MOST = 20_000;

export function LiveView() {
  const steps = useRef<Step[]>([]);
  const [count, setCount] = useState(0);
  const [state, setState] = useState<"waiting" | "running" | "ended" | "lost">("waiting");
  useEffect(() => {
    if (isInlined) return;
    const source = new EventSource("api/live");
    let asked = 0;
    source.addEventListener("step", (event) => {
      steps.current.push(JSON.parse((event as MessageEvent<string>).data) as Step);
      if (steps.current.length > MOST) steps.current.splice(0, MOST / 10);
      setState("running");
      // Many steps may come between two frames.
      asked ||= requestAnimationFrame(() => {
        asked = 0;
        setCount((one) => one + 1);
      });
    });
    source.addEventListener("end", () => {
      setState("ended");
      source.close();
    });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) setState("lost");
    };
    source.onopen = () => {
      // The server tells all from the beginning each time.
      steps.current = [];
    };
    return () => source.close();
  }, []);
  if (!steps.current.length) {
    return (
      <Message>
        {state === "ended" ? "The session has ended." : state === "lost" ? "The connection was lost." : "Waiting for the first step."}
      </Message>
    );
  }
  const last = steps.current.at(-1)!;
  const recent = steps.current.slice(-100).map((one) => one.seconds ?? NaN).filter(Number.isFinite);
  const middle = recent.toSorted((one, other) => one - other)[recent.length >> 1] ?? null;
  return (
    <div class="view live" data-steps={steps.current.length} data-count={count}>
      <div class="verdict">
        <Figure name={state === "running" ? "step, running" : state} value={last.step.toLocaleString("en")} />
        <Figure name="median of the last 100" value={time(middle)} />
        <Figure name="last step" value={time(last.seconds)} />
        <Figure name="memory" value={bytes(last.bytes)} />
        <Figure name="peak" value={bytes(last.peak_bytes)} />
        {last.loss != null && <Figure name="loss" value={amount(last.loss)} />}
      </div>
      <Chart
        title="Time of a step"
        steps={steps.current}
        count={count}
        lines={[{ name: "", colour: "phase-forward", of: (one) => one.seconds }]}
        format={time}
        base={10}
      />
      <Chart
        title="Memory"
        steps={steps.current}
        count={count}
        lines={[
          { name: "peak", colour: "kind-activation", of: (one) => one.peak_bytes },
          { name: "at the end of a step", colour: "kind-parameter", of: (one) => one.bytes },
        ]}
        format={bytes}
        base={2}
      />
    </div>
  );
}

function Figure({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <span class="muted">{name}</span>
      <b>{value}</b>
    </div>
  );
}

interface Line {
  name: string;
  colour: string;
  of: (step: Step) => number | null | undefined;
}

function Chart(props: {
  title: string;
  steps: Step[];
  count: number;
  lines: Line[];
  format: (value: number) => string;
  base: number;
}) {
  const holder = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(holder);
  const repaint = usePainter(() => {
    const context = canvas.current && prepare(canvas.current, size);
    if (context) chart(context, props, size);
  });
  useTheme(repaint);
  useEffect(repaint, [size.width, size.height, props.count]);
  return (
    <section class="chart">
      <h3>
        {props.title}
        <span class="swatches">
          {props.lines
            .filter((line) => line.name)
            .map((line) => (
              <span key={line.name}>
                <i style={{ background: `var(--${line.colour})` }} />
                {line.name}
              </span>
            ))}
        </span>
      </h3>
      <div class="stage" ref={holder}>
        <canvas ref={canvas} role="img" aria-label={props.title} />
      </div>
    </section>
  );
}

function chart(
  context: Context,
  { steps, lines, format, base }: { steps: Step[]; lines: Line[]; format: (value: number) => string; base: number },
  size: { width: number; height: number },
): void {
  const [left, right, top, bottom] = [76, size.width - 12, 8, size.height - 22];
  const first = steps[0]!.step;
  const last = Math.max(first + 1, steps.at(-1)!.step);
  const values = lines.flatMap((line) => steps.map((step) => line.of(step) ?? 0)).filter(Number.isFinite);
  // A single slow first step would flatten all others.
  const ordered = values.toSorted((one, other) => one - other);
  const usual = ordered[Math.floor(ordered.length * 0.98)] ?? 1;
  const most = Math.min(ordered.at(-1) ?? 1, usual * 1.5) * 1.05 || 1;
  const toX = (step: number): number => left + ((step - first) / (last - first)) * (right - left);
  const toY = (value: number): number => bottom - (Math.min(value, most) / most) * (bottom - top);
  context.font = SMALL;
  context.textBaseline = "middle";
  context.lineWidth = 1;
  for (const value of ticks(0, most, 4, base)) {
    const y = Math.round(toY(value)) + 0.5;
    context.strokeStyle = ink("line");
    context.beginPath();
    context.moveTo(left, y);
    context.lineTo(right, y);
    context.stroke();
    context.fillStyle = ink("muted");
    context.textAlign = "right";
    context.fillText(format(value), left - 8, y);
  }
  context.textAlign = "center";
  for (const step of ticks(first, last, size.width / 140)) {
    if (Number.isInteger(step)) context.fillText(step.toLocaleString("en"), toX(step), bottom + 12);
  }
  for (const line of lines) {
    context.strokeStyle = ink(line.colour);
    context.lineWidth = 1.5;
    context.beginPath();
    for (const step of steps) {
      const value = line.of(step);
      if (value != null && Number.isFinite(value)) context.lineTo(toX(step.step), toY(value));
    }
    context.stroke();
  }
}
