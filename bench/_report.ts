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

function ratio(result: Result): string {
  const way = best(result);
  if (way !== undefined) return result.ratios[way]!.toFixed(2);
  const { goalRate, rates } = result;
  return goalRate ? compact(rates.module!) : "";
}

/** A rate in a few characters. */
export function compact(rate: number): string {
  if (rate >= 1e6) return `${(rate / 1e6).toFixed(2)} M`;
  if (rate >= 1e4) return `${(rate / 1e3).toFixed(0)} k`;
  return rate >= 100 ? rate.toFixed(0) : rate.toFixed(1);
}

function goal({ goal, goalRate }: Result): string {
  if (goalRate) return `≥ ${compact(goalRate)}/s`;
  return goal === undefined ? "" : `≥ ${Number(goal.toFixed(2))}`;
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
    ...names.map((name) => {
      const rate = of(name, row)?.rates.module;
      return rate ? (rate / python[row]!).toFixed(1) : "";
    }),
    `${compact(python[row]!)}/s`,
  ]);
  const loops = [...rows.keys()].map((row) => [
    row,
    ...names.map((name) => of(name, row)?.ratios.loop?.toFixed(1) ?? ""),
  ]).filter((cells) => cells.slice(1).some((cell) => cell !== ""));
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
    `Made by \`deno task bench\`: commit ${commit}, ${cores} cores, ${system}, medians of ${rounds} rounds in which all ways took turns, twice each: the second counts. ` +
    Object.entries(versions).map(([name, at]) => `${name} ${at}`).join(", ") +
    ".",
    "",
    "The floor is a bare `MessagePort` that carries one message a post: no end of file, no order with bytes, and no backpressure, " +
    "except that messages of 64 KiB and more are acknowledged so that at most 4 MiB are on their way, as in a Connection. " +
    "Bytes: the better of cloning them and of transferring a copy; for `recv_bytes_into` the bare port's reader copies into its buffer too.",
    "",
    "## The module's rate divided by the floor's",
    "",
    ...tabled(["", "goal", ...names], ratios),
    ...(beside.length === 0 ? [] : [
      "",
      "## The module's rate divided by that of Python's `multiprocessing`",
      "",
      ...tabled(["", ...names, "Python"], against),
    ]),
    "",
    ...(loops.length === 0 ? [] : [
      "## The queue's rate divided by that of a request loop over a port",
      "",
      "Goal in Chromium, not isolated: ≥ 3.",
      "",
      ...tabled(["", ...names], loops),
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
