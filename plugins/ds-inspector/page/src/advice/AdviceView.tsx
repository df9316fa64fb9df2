// Findings: what was seen, what would help, and what it brings.

import type { Advice, Finding } from "../contract.ts";
import { place, share, time } from "../format.ts";
import { useKeys } from "../keyboard.ts";
import { Message, useAnswer, Waiting } from "../loading.tsx";
import { isEmpty, keys, matches, same } from "../selection.ts";
import { query, recording, select, selection } from "../state.ts";

export function AdviceView() {
  const answer = useAnswer<Advice>("advice", { r: recording.value });
  const findings = answer.value ? filtered(answer.value.findings, query.value) : [];
  useKeys((event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!move || !findings.length) return false;
    const here = findings.findIndex((one) => same(keys(one), selection.value));
    const next = findings[Math.max(0, Math.min(findings.length - 1, here + move))]!;
    select(keys(next));
    return true;
  });
  if (!answer.value) return <Waiting answer={answer} />;
  if (!findings.length) {
    return (
      <Message>
        {query.value ? "No finding has these words." : "Nothing was found that one should change."}
      </Message>
    );
  }
  return (
    <div class="view advice">
      <div class="cards">
        {findings.map((one, index) => (
          <Card key={`${one.id} ${index}`} finding={one} />
        ))}
      </div>
    </div>
  );
}

function filtered(findings: Finding[], text: string): Finding[] {
  const wanted = text.toLowerCase();
  return findings.filter((one) =>
    `${one.title} ${one.evidence} ${one.remedy} ${one.module} ${one.op}`.toLowerCase().includes(wanted),
  );
}

function Card({ finding }: { finding: Finding }) {
  const where = keys(finding);
  const chosen = !isEmpty(selection.value) && matches(where, selection.value);
  return (
    <article
      class="card"
      aria-current={chosen}
      ref={(card) => void (chosen && card?.scrollIntoView({ block: "nearest" }))}
    >
      <div class="card-head">
        <h2>{finding.title}</h2>
        <Gain finding={finding} />
      </div>
      <p>{finding.evidence}</p>
      <p class="remedy">
        {finding.pass && <code>{finding.pass}</code>}
        <span>{finding.remedy}</span>
      </p>
      {!isEmpty(where) && (
        <button class="where link" onClick={() => select(where)}>
          {[finding.module, finding.op, place(finding.source)].filter(Boolean).join("  ·  ")}
          {finding.seconds !== null && <span class="muted">  {time(finding.seconds)}</span>}
        </button>
      )}
    </article>
  );
}

function Gain({ finding }: { finding: Finding }) {
  return (
    <div class="gain">
      {finding.estimate !== null && (
        <div title="Share of a step that would be saved, as estimated">
          <b>{share(finding.estimate)}</b>
          <span class="muted">estimated</span>
        </div>
      )}
      {finding.measured !== null && (
        <div title="Share of a step that was saved, as measured" class="measured">
          <b>{share(finding.measured)}</b>
          <span class="muted">measured</span>
        </div>
      )}
    </div>
  );
}
