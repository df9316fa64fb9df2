// Each operator's rate against its work for each byte, on logarithmic axes, below what was measured
// of the machine.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { SMALL, ink, prepare, usePainter, useSize, useTheme, type Context } from "../canvas.ts";
import type { Operators } from "../contract.ts";
import { amount, share, time } from "../format.ts";
import { select } from "../state.ts";
import { Tip } from "../Tip.tsx";
import { keysOf } from "./model.ts";

interface Dot {
  row: number;
  intensity: number;
  rate: number;
  seconds: number;
}

interface Roof {
  name: string;
  flops: number;
  bandwidth: number;
}

const PAD = { left: 78, right: 20, top: 14, bottom: 34 };

export function Roofline(props: { operators: Operators; rows: number[]; chosen: Set<number> }) {
  const { operators, rows, chosen } = props;
  const holder = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(holder);
  const [hover, setHover] = useState<{ dot: Dot; x: number; y: number } | null>(null);
  const { columns } = operators;
  const dots = useMemo(() => {
    const found: Dot[] = [];
    for (const row of rows) {
      const [flops, moved, rate] = [columns.flops[row], columns.bytes[row], columns.rate[row]];
      if (!flops || !moved || !rate) continue;
      found.push({ row, intensity: flops / moved, rate, seconds: columns.seconds[row] ?? 0 });
    }
    return found;
  }, [columns, rows]);
  const roofs = useMemo(() => roofsOf(operators), [operators]);
  const longest = Math.max(1e-12, ...dots.map((one) => one.seconds));
  const bounds = useMemo(() => extent(dots, roofs), [dots, roofs]);
  const toX = (value: number): number =>
    PAD.left + (Math.log10(value / bounds.left) / Math.log10(bounds.right / bounds.left)) * (size.width - PAD.left - PAD.right);
  const toY = (value: number): number =>
    size.height - PAD.bottom - (Math.log10(value / bounds.bottom) / Math.log10(bounds.top / bounds.bottom)) * (size.height - PAD.top - PAD.bottom);
  const radius = (dot: Dot): number => 2.5 + 8 * Math.sqrt(dot.seconds / longest);

  const repaint = usePainter(() => {
    const context = canvas.current && prepare(canvas.current, size);
    if (!context || !dots.length) return;
    axes(context, bounds, toX, toY, size);
    lines(context, roofs, bounds, toX, toY);
    const drawn = dots.toSorted((one, other) => other.seconds - one.seconds);
    for (const dot of drawn) {
      const strong = chosen.has(dot.row);
      context.beginPath();
      context.arc(toX(dot.intensity), toY(dot.rate), radius(dot), 0, 7);
      context.globalAlpha = chosen.size && !strong ? 0.35 : 0.85;
      context.fillStyle = ink(phaseColour(columns.phase[dot.row]!));
      context.fill();
      context.globalAlpha = 1;
      context.strokeStyle = strong ? ink("accent") : ink("muted");
      context.lineWidth = strong ? 2 : 0.75;
      context.stroke();
    }
  });
  useTheme(repaint);
  useEffect(repaint, [size.width, size.height, dots, roofs, chosen]);
  if (!dots.length) return null;

  function under(event: MouseEvent): Dot | null {
    let best: Dot | null = null;
    let least = Infinity;
    for (const dot of dots) {
      const far = Math.hypot(toX(dot.intensity) - event.offsetX, toY(dot.rate) - event.offsetY);
      if (far < radius(dot) + 3 && far < least) [best, least] = [dot, far];
    }
    return best;
  }

  return (
    <div class="roofline">
      <h3>
        Roofline<span class="muted">a dot's size is its time</span>
      </h3>
      <div class="stage" ref={holder}>
        <canvas
          ref={canvas}
          role="img"
          aria-label="Roofline: rate of each operator against its work for each byte"
          onPointerMove={(event) => {
            const dot = under(event);
            setHover(dot && { dot, x: event.offsetX, y: event.offsetY });
          }}
          onPointerLeave={() => setHover(null)}
          onClick={(event) => {
            const dot = under(event);
            if (dot) select(keysOf(columns, dot.row));
          }}
        />
        {hover && (
          <Tip
            title={columns.op[hover.dot.row]!}
            rows={[
              ["rate", amount(hover.dot.rate, "FLOP/s")],
              ["of peak", share(columns.share_of_peak[hover.dot.row])],
              ["work", `${amount(hover.dot.intensity, "FLOP")} a byte`],
              ["self", time(hover.dot.seconds)],
              ["inputs", columns.shapes[hover.dot.row]!],
            ]}
            x={hover.x}
            y={hover.y}
            box={size}
          />
        )}
      </div>
      <div class="swatches">
        {[...new Set(dots.map((one) => columns.phase[one.row]!))].filter(Boolean).map((one) => (
          <span key={one}>
            <i style={{ background: `var(--${phaseColour(one)})` }} />
            {one}
          </span>
        ))}
      </div>
      {roofs.length === 0 && (
        <p class="muted">The machine's rates were not measured, so there is no roof.</p>
      )}
    </div>
  );
}

function phaseColour(phase: string): string {
  return `phase-${["forward", "backward", "optimizer", "data"].includes(phase) ? phase : "other"}`;
}

function roofsOf({ peaks }: Operators): Roof[] {
  const { bandwidth, ...rates } = peaks;
  if (!bandwidth) return [];
  const found: Roof[] = [];
  for (const [name, flops] of Object.entries(rates).sort(([, one], [, other]) => other - one)) {
    // Names of roofs that are as good as the same would cover each other.
    const near = found.find((roof) => flops > roof.flops * 0.6);
    if (near) near.name += `, ${name}`;
    else if (flops > 0) found.push({ name, flops, bandwidth });
  }
  return found;
}

interface Bounds {
  left: number;
  right: number;
  bottom: number;
  top: number;
}

function extent(dots: Dot[], roofs: Roof[]): Bounds {
  const xs = dots.map((one) => one.intensity);
  const ys = [...dots.map((one) => one.rate), ...roofs.map((one) => one.flops)];
  for (const roof of roofs) xs.push(roof.flops / roof.bandwidth);
  const power = (value: number, up: boolean): number =>
    10 ** (up ? Math.ceil(Math.log10(value * 1.2)) : Math.floor(Math.log10(value / 1.2)));
  return {
    left: power(Math.min(...xs), false),
    right: power(Math.max(...xs), true),
    bottom: power(Math.min(...ys), false),
    top: power(Math.max(...ys), true),
  };
}

function axes(
  context: Context,
  bounds: Bounds,
  toX: (value: number) => number,
  toY: (value: number) => number,
  size: { width: number; height: number },
): void {
  context.font = SMALL;
  context.fillStyle = ink("muted");
  context.strokeStyle = ink("line");
  context.lineWidth = 1;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (let value = bounds.bottom; value <= bounds.top * 1.01; value *= 10) {
    const y = Math.round(toY(value)) + 0.5;
    stroke(context, PAD.left, y, size.width - PAD.right, y);
    context.fillText(amount(value, "FLOP/s").replace(".00", "").replace(".0", ""), PAD.left - 6, y);
  }
  context.textAlign = "center";
  const every = Math.log10(bounds.right / bounds.left) > 6 ? 100 : 10;
  for (let value = bounds.left; value <= bounds.right * 1.01; value *= every) {
    const x = Math.round(toX(value)) + 0.5;
    stroke(context, x, PAD.top, x, size.height - PAD.bottom);
    const text = value >= 1 ? String(Math.round(value)) : value.toPrecision(1);
    context.fillText(text, x, size.height - PAD.bottom + 10);
  }
  context.fillText("FLOP a byte", (PAD.left + size.width - PAD.right) / 2, size.height - 8);
}

function lines(
  context: Context,
  roofs: Roof[],
  bounds: Bounds,
  toX: (value: number) => number,
  toY: (value: number) => number,
): void {
  for (const roof of roofs) {
    const knee = roof.flops / roof.bandwidth;
    const left = Math.max(bounds.left, bounds.bottom / roof.bandwidth);
    context.strokeStyle = ink("ink");
    context.lineWidth = 1.25;
    context.beginPath();
    context.moveTo(toX(left), toY(left * roof.bandwidth));
    context.lineTo(toX(knee), toY(roof.flops));
    context.lineTo(toX(bounds.right), toY(roof.flops));
    context.stroke();
    context.fillStyle = ink("ink");
    context.textAlign = "right";
    context.fillText(roof.name, toX(bounds.right) - 2, toY(roof.flops) - 8);
  }
}

function stroke(context: Context, x: number, y: number, toX: number, toY: number): void {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(toX, toY);
  context.stroke();
}
