// The table of operators, and where they stand against what the machine can do.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useSize } from "../canvas.ts";
import type { Operators } from "../contract.ts";
import { share, time } from "../format.ts";
import { useKeys } from "../keyboard.ts";
import { Message, useAnswer, Waiting } from "../loading.tsx";
import { isEmpty } from "../selection.ts";
import { query, recording, reveal, select, selection } from "../state.ts";
import { COLUMNS, filtered, keysOf, marked, sorted, value, type Column } from "./model.ts";
import { Roofline } from "./Roofline.tsx";

const ROW = 25;

export function OperatorsView() {
  const answer = useAnswer<Operators>("operators", { r: recording.value });
  if (!answer.value) return <Waiting answer={answer} />;
  if (!answer.value.columns.op.length) return <Message>No operators were recorded.</Message>;
  return <Table operators={answer.value} />;
}

function Table({ operators }: { operators: Operators }) {
  const { columns } = operators;
  const [order, setOrder] = useState<{ by: Column; down: boolean }>({
    by: COLUMNS.find((one) => one.name === "seconds")!,
    down: true,
  });
  const rows = useMemo(
    () => sorted(columns, filtered(columns, query.value), order.by, order.down),
    [columns, query.value, order],
  );
  const chosen = useMemo(() => marked(columns, selection.value), [columns, selection.value]);
  const all = useMemo(
    () => columns.seconds.reduce<number>((sum, one) => sum + (one ?? 0), 0),
    [columns],
  );
  const longest = useMemo(() => Math.max(0, ...columns.seconds.map((one) => one ?? 0)), [columns]);
  const holder = useRef<HTMLDivElement>(null);
  const size = useSize(holder);
  const [top, setTop] = useState(0);
  const shown = rows.slice(
    Math.max(0, Math.floor(top / ROW) - 4),
    Math.ceil((top + size.height) / ROW) + 4,
  );
  const first = Math.max(0, Math.floor(top / ROW) - 4);

  function intoSight(row: number): void {
    const box = holder.current;
    const y = rows.indexOf(row) * ROW;
    if (!box || y < 0) return;
    // The head of the table covers one row.
    if (y < box.scrollTop || y + 2 * ROW > box.scrollTop + box.clientHeight) {
      box.scrollTop = Math.max(0, y - box.clientHeight / 2);
    }
  }

  useEffect(() => {
    const row = rows.find((one) => chosen.has(one));
    if (row !== undefined && !isEmpty(selection.value)) intoSight(row);
  }, [reveal.value, size.height > 0]);

  useKeys((event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!move) return false;
    const here = rows.findIndex((one) => chosen.has(one));
    const next = rows[Math.max(0, Math.min(rows.length - 1, here < 0 ? 0 : here + move))];
    if (next !== undefined) {
      select(keysOf(columns, next));
      intoSight(next);
    }
    return true;
  });

  const seconds = rows.reduce((sum, row) => sum + (columns.seconds[row] ?? 0), 0);
  // A column of which nothing is known is only in the way.
  const visible = COLUMNS.filter(
    (one) => one.always || columns[one.name].some((cell) => cell !== null && cell !== ""),
  );
  return (
    <div class="view operators">
      <div class="toolbar">
        <span>
          {rows.length.toLocaleString("en")} of {columns.op.length.toLocaleString("en")} rows
        </span>
        <span class="spring" />
        {query.value && (
          <span class="note found" role="status">
            “{query.value}” {time(seconds)} = {share(all ? seconds / all : 0)}
          </span>
        )}
      </div>
      <div class="columns">
        <div class="table" ref={holder} tabIndex={0} onScroll={(event) => setTop(event.currentTarget.scrollTop)}>
          <table style={{ width: `${visible.reduce((sum, one) => sum + one.width, 0)}px` }}>
            <colgroup>
              {visible.map((one) => (
                <col key={one.name} style={{ width: `${one.width}px` }} />
              ))}
            </colgroup>
            <thead>
              <tr>
                {visible.map((one) => (
                  <th
                    key={one.name}
                    class={one.figure ? "number" : ""}
                    aria-sort={order.by === one ? (order.down ? "descending" : "ascending") : "none"}
                  >
                    <button
                      title={one.title}
                      onClick={() =>
                        setOrder(
                          order.by === one ? { by: one, down: !order.down } : { by: one, down: one.figure },
                        )
                      }
                    >
                      {one.label}
                      {order.by === one ? (order.down ? " ↓" : " ↑") : ""}
                    </button>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {first > 0 && <tr class="room" style={{ height: `${first * ROW}px` }} />}
              {shown.map((row) => (
                <tr
                  key={row}
                  aria-selected={chosen.has(row)}
                  onClick={() => select(keysOf(columns, row))}
                >
                  {visible.map((one) => {
                    const text = value(columns, row, one);
                    const part =
                      one.name === "seconds" && longest ? (columns.seconds[row] ?? 0) / longest : null;
                    return (
                      <td key={one.name} class={one.figure ? "number" : ""} title={one.figure ? undefined : String(columns[one.name][row])}>
                        {part !== null && <i class="meter" style={{ width: `${part * 100}%` }} />}
                        <span>{text}</span>
                      </td>
                    );
                  })}
                </tr>
              ))}
              <tr class="room" style={{ height: `${Math.max(0, rows.length - first - shown.length) * ROW}px` }} />
            </tbody>
          </table>
        </div>
        <Roofline operators={operators} rows={rows} chosen={chosen} />
      </div>
    </div>
  );
}
