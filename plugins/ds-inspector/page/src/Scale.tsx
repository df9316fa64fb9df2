// A ramp of colours with what its ends stand for.

import { ramp } from "./colours.ts";

const STOPS = [0, 0.25, 0.5, 0.75, 1];

export function Scale(props: { name: "time" | "memory" | "change"; low: string; high: string }) {
  const { name } = props;
  const painted =
    name === "change"
      ? [
          ...STOPS.toReversed().map((at) => ramp("faster", at)),
          ...STOPS.map((at) => ramp("slower", at)),
        ]
      : STOPS.map((at) => ramp(name, at));
  return (
    <span class="scale">
      {props.low}
      <i style={{ background: `linear-gradient(90deg, ${painted.join(", ")})` }} />
      {props.high}
    </span>
  );
}
