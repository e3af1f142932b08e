// The table of a run, ratios first.

import type { Result } from "./_rows.ts";

/** All that a run has measured. */
export interface Results {
  commit: string;
  cores: number;
  system: string;
  rounds: number;
  versions: Record<string, string>;
  /** By runtime. */
  runtimes: Record<string, Result[]>;
  /** Rates, by row. */
  python: Record<string, number>;
  /** Bytes that one of many idle things takes, by runtime. */
  idle: Record<string, Record<string, number>>;
  /** Bytes of the module, minified and gzipped. */
  size: number;
}

/** The floor's fastest way in this runtime. */
export function best({ floor, rates }: Result): string | undefined {
  return floor.filter((way) => way in rates)
    .sort((a, b) => rates[b]! - rates[a]!)[0];
}

/** A ratio; where it misses the goal, behind it that of the sketch which bounds it. */
function cell(
  value: number | undefined,
  goal = 0,
  bound?: number,
  digits = 2,
): string {
  if (value === undefined) return "";
  const text = value.toFixed(digits);
  if (Number(text) >= Number(goal.toFixed(2))) return text;
  return bound === undefined
    ? `${text} !`
    : `${text} (${bound.toFixed(digits)})`;
}

function ratio(result: Result): string {
  const { goal, goalRate, rates, ratios, bound } = result;
  const way = best(result);
  if (way !== undefined) return cell(ratios[way], goal, bound?.ratios[way]);
  return goalRate ? compact(rates.module!) : "";
}

/** A rate in a few characters. */
export function compact(rate: number): string {
  if (rate >= 1e6) return `${(rate / 1e6).toFixed(2)} M`;
  if (rate >= 1e4) return `${(rate / 1e3).toFixed(0)} k`;
  return rate >= 100 ? rate.toFixed(0) : rate.toFixed(1);
}

function atLeast(goal: number | undefined): string {
  return goal === undefined ? "" : `≥ ${Number(goal.toFixed(2))}`;
}

function goal({ goal, goalRate }: Result): string {
  return goalRate ? `≥ ${compact(goalRate)}/s` : atLeast(goal);
}

function line(cells: string[]): string {
  return `| ${cells.join(" | ")} |`;
}

function tabled(head: string[], rows: string[][]): string[] {
  return [
    line(head),
    line(head.map((_, i) => i === 0 ? "---" : "--:")),
    ...rows.map(line),
  ];
}

/** Markdown. */
export function report(results: Results): string {
  const { runtimes, python, versions, commit, cores, system, rounds } = results;
  const { idle, size } = results;
  const names = Object.keys(runtimes);
  const rows = new Map<string, Result>();
  for (const list of Object.values(runtimes)) {
    for (const result of list) rows.set(result.name, result);
  }
  const of = (runtime: string, row: string) =>
    runtimes[runtime]!.find(({ name }) => name === row);
  const ratios = [...rows.values()].map((row) => [
    row.name,
    goal(row),
    ...names.map((name) => {
      const result = of(name, row.name);
      return result ? ratio(result) : "";
    }),
  ]);
  const beside = Object.keys(python).filter((row) => rows.has(row));
  const against = beside.map((row) => [
    row,
    atLeast(rows.get(row)!.goals?.Python),
    ...names.map((name) => {
      const { rates, goals, bound } = of(name, row) ?? {};
      const to = (rate: number | undefined) => rate && rate / python[row]!;
      const sketch = bound && rates?.[bound.sketch];
      return cell(to(rates?.module), goals?.Python, to(sketch), 1);
    }),
    `${compact(python[row]!)}/s`,
  ]);
  const peers = [...rows.values()].flatMap(({ name: row, goals = {} }) =>
    ["loop", "comlink", "stream"]
      .filter((way) => names.some((name) => of(name, row)?.ratios[way]))
      .map((way) => [
        row,
        way,
        atLeast(goals[way]),
        ...names.map((name) => {
          const { ratios, bound } = of(name, row) ?? {};
          return cell(ratios?.[way], goals[way], bound?.ratios[way], 1);
        }),
      ])
  );
  const kinds = [...new Set(Object.values(idle).flatMap(Object.keys))];
  const bytes = kinds.map((kind) => [
    kind,
    ...Object.values(idle).map((of) => of[kind]?.toLocaleString("en") ?? ""),
  ]);
  const rates = [...rows.values()].flatMap((row) => {
    const ways = new Set(
      names.flatMap((name) => Object.keys(of(name, row.name)?.rates ?? {})),
    );
    return [...ways].map((way) => [
      row.name,
      way,
      ...names.map((name) => {
        const rate = of(name, row.name)?.rates[way];
        return rate ? compact(rate) : "";
      }),
      row.unit,
    ]);
  });
  return [
    "# Results",
    "",
    `Made by \`deno task bench\`: commit ${commit}, ${cores} cores, ${system}, medians of ${rounds} rounds in which all ways took turns, 150 ms each or more. ` +
    Object.entries(versions).map(([name, at]) => `${name} ${at}`).join(", ") +
    ".",
    "",
    "The floor is a bare `MessagePort` that carries one message a post: no end of file, no order with bytes, and no backpressure, " +
    "except that messages of 64 KiB and more are acknowledged so that at most 4 MiB are on their way, as in a Connection. " +
    "Bytes: the better of cloning them and of transferring a copy; for `recv_bytes_into` the bare port's reader copies into its buffer too.",
    "",
    "Where a row misses its goal, what a sketch has there is in brackets: bare ports, with nothing of the module, and no more than what any module with these calls has to do " +
    "([bench/_sketches.ts](_sketches.ts)). A cell with an exclamation mark has none.",
    "",
    "## The module's rate divided by the floor's",
    "",
    ...tabled(["", "goal", ...names], ratios),
    ...(beside.length === 0 ? [] : [
      "",
      "## The module's rate divided by that of Python's `multiprocessing`",
      "",
      ...tabled(["", "goal", ...names, "Python"], against),
    ]),
    "",
    ...(peers.length === 0 ? [] : [
      "## The queue's rate divided by that of a request loop over a port, made by hand or with comlink, and by that of a transferred stream",
      "",
      ...tabled(["", "", "goal", ...names], peers),
      "",
    ]),
    ...(bytes.length === 0 ? [] : [
      "## Bytes of one, idle",
      "",
      "What the process grew by, after garbage collection, divided by how many were made. Used: one message went through.",
      "",
      ...tabled(["", ...Object.keys(idle)], bytes),
      "",
    ]),
    `Size of the module, minified and gzipped: ${
      size.toLocaleString("en")
    } bytes.`,
    "",
    "## Rates per second",
    "",
    ...tabled(["", "", ...names, "of"], rates),
    "",
  ].join("\n");
}
