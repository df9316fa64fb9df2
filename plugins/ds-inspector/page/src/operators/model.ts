// Rows of the table of operators.

import type { OperatorColumns } from "../contract.ts";
import { amount, bytes, place, share, time } from "../format.ts";
import { isEmpty, keys, matches, type Keys } from "../selection.ts";

export interface Column {
  name: keyof OperatorColumns;
  label: string;
  title: string;
  figure: boolean;
  width: number;
  always: boolean;
  format: (value: number | null) => string;
}

function column(
  name: keyof OperatorColumns,
  label: string,
  width: number,
  title: string,
  format: ((value: number | null) => string) | null = null,
): Column {
  return {
    name,
    label,
    title,
    figure: format !== null,
    width,
    always: ["op", "calls", "seconds"].includes(name),
    format: format ?? String,
  };
}

const count = (value: number | null): string => (value ?? 0).toLocaleString("en");
const rate = (value: number | null): string => amount(value, "FLOP/s");

export const COLUMNS: Column[] = [
  column("op", "operator", 216, "What ran"),
  column("seconds", "self", 84, "Time in it, without what it called", time),
  column("calls", "calls", 58, "How often it ran", count),
  column("share_of_peak", "of peak", 68, "Of what the machine can do, as measured", share),
  column("rate", "rate", 104, "Work for each second", rate),
  column("bytes", "bytes", 84, "Read and written", bytes),
  column("bound", "bound by", 78, "What limits it at best: computing, or moving bytes"),
  column("phase", "phase", 92, "Forward, backward or optimizer"),
  column("module", "module", 190, "Whose forward called it"),
  column("shapes", "inputs", 190, "Shapes of its inputs"),
  column("dtype", "dtype", 76, "Of its inputs"),
  column("source", "source", 130, "The line that called it"),
  column("flops", "work", 96, "Floating point operations", (value) => amount(value, "FLOP")),
  column("total", "total", 80, "Time in it, with what it called", time),
];

export function value(columns: OperatorColumns, row: number, one: Column): string {
  const cell = columns[one.name][row];
  if (one.figure) return one.format(cell as number | null);
  if (one.name === "source") return place(String(cell ?? ""));
  return String(cell ?? "");
}

export function keysOf(columns: OperatorColumns, row: number): Keys {
  return keys({
    op: columns.op[row],
    module: columns.module[row],
    source: columns.source[row],
    node: columns.node[row],
  });
}

export function marked(columns: OperatorColumns, selection: Keys): Set<number> {
  const found = new Set<number>();
  if (isEmpty(selection)) return found;
  for (let row = 0; row < columns.op.length; row += 1) {
    if (matches(keysOf(columns, row), selection)) found.add(row);
  }
  return found;
}

export function filtered(columns: OperatorColumns, query: string): number[] {
  const rows = columns.op.map((_, row) => row);
  if (!query) return rows;
  const wanted = query.toLowerCase();
  return rows.filter((row) =>
    [columns.op, columns.module, columns.shapes, columns.source, columns.dtype].some((texts) =>
      texts[row]!.toLowerCase().includes(wanted),
    ),
  );
}

/** Unknown values come last, whichever way. */
export function sorted(
  columns: OperatorColumns,
  rows: number[],
  { name, figure }: Column,
  down: boolean,
): number[] {
  const cells = columns[name];
  const sign = down ? -1 : 1;
  return rows.sort((one, other) => {
    const [left, right] = [cells[one], cells[other]];
    if (left === null || left === "") return right === null || right === "" ? one - other : 1;
    if (right === null || right === "") return -1;
    if (figure) return sign * ((left as number) - (right as number)) || one - other;
    return sign * String(left).localeCompare(String(right)) || one - other;
  });
}
