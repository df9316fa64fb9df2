// Above the graph: where one is, and what colours mean.

import { dtypeColour } from "../colours.ts";
import { bytes, time } from "../format.ts";
import { Scale } from "../Scale.tsx";
import { colour, type Colour } from "../state.ts";
import { useAnswer } from "../loading.tsx";
import type { Session } from "../contract.ts";

export function Crumbs({ path, go }: { path: string; go: (path: string) => void }) {
  const ends = [...path.matchAll(/[.#]/g)].map((match) => match.index);
  const parts = path ? [...ends, path.length].map((end) => path.slice(0, end)) : [];
  return (
    <nav class="crumbs" aria-label="Group">
      <button onClick={() => go("")} disabled={!path}>
        model
      </button>
      {parts.map((part, index) => (
        <>
          <span class="muted">›</span>
          <button onClick={() => go(part)} disabled={index === parts.length - 1}>
            {part.slice(index ? parts[index - 1]!.length + 1 : 0)}
          </button>
        </>
      ))}
    </nav>
  );
}

const DTYPES = ["float32", "bfloat16", "float16", "float8", "int64", "mixed"];

export function Legend(props: { most: { seconds: number; bytes: number }; shown: Colour }) {
  const { most, shown } = props;
  const session = useAnswer<Session>("session");
  const choices: Colour[] = ["memory", "precision"];
  if (most.seconds || shown === "time") choices.unshift("time");
  if ((session.value?.recordings.length ?? 0) > 1) choices.push("change");
  return (
    <div class="legend">
      <div class="segments" role="group" aria-label="Colour by">
        {choices.map((one) => (
          <button key={one} aria-pressed={shown === one} onClick={() => (colour.value = one)}>
            {one}
          </button>
        ))}
      </div>
      <Meaning most={most} name={shown} />
    </div>
  );
}

function Meaning(props: { most: { seconds: number; bytes: number }; name: Colour }) {
  const { most, name } = props;
  if (name === "precision") {
    return (
      <span class="swatches">
        {DTYPES.map((one) => (
          <span key={one}>
            <i style={{ background: dtypeColour(one) }} />
            {one}
          </span>
        ))}
      </span>
    );
  }
  if (name === "change") return <Scale name="change" low="½×" high="2×" />;
  const high = name === "time" ? time(most.seconds) : bytes(most.bytes);
  return <Scale name={name} low="0" high={high} />;
}
