// The chart of a run: queues beside their peers, pipes as ratios to a bare port.
//
//     deno run -A bench/_chart.ts      draws results.json again, into results.svg
//
// Its colours can be read on light and on dark: a page that shows it decides on the background.

import { best, compact, type Results } from "./_report.ts";
import type { Result } from "./_rows.ts";

const WIDTH = 960;
const LABELS = 200;
const BAR = 9;
const STEP = 12;
const TEXT = "#747e89";
const MODULE = "#2a9d8f";
const WORSE = "#d1573f";

/** What queues are compared with: in the rows of the bench, in words, in colour. */
const WAYS: [way: string, words: string, colour: string][] = [
  ["module", "this module", MODULE],
  ["multithreading", "multithreading", "#d98324"],
  ["Python", "Python", "#b59a1f"],
  ["stream", "transferred stream", "#8f6fd0"],
  ["loop", "request loop over a port", "#5688d8"],
];

type Attributes = Record<string, string | number>;

function element(name: string, attributes: Attributes, text?: string): string {
  const all = Object.entries(attributes)
    .map(([key, value]) => {
      const short = typeof value === "number"
        ? Number(value.toFixed(1))
        : value;
      return ` ${key}="${short}"`;
    }).join("");
  return text === undefined
    ? `<${name}${all}/>`
    : `<${name}${all}>${escape(text)}</${name}>`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

const words = (x: number, y: number, text: string, more: Attributes = {}) =>
  element("text", { x, y, ...more }, text);
const bar = (x: number, y: number, width: number, fill: string) =>
  element("rect", {
    x,
    y,
    width: Math.max(width, 1),
    height: BAR,
    rx: 2,
    fill,
  });

function capital(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}

/** A row of one runtime, if it was measured there. */
type Of = (runtime: string, row: string) => Result | undefined;

/** The names of the rows that have a place in a part of the chart, in their order. */
function rowsOf(results: Results, fits: (row: Result) => boolean): string[] {
  const rows = Object.values(results.runtimes).flat().filter(fits);
  return [...new Set(rows.map(({ name }) => name))];
}

/** Bars of items a second, on one scale; returns where they end. */
function queues(out: string[], top: number, results: Results, of: Of): number {
  const rate = (runtime: string, row: string, way: string) =>
    way === "Python" ? results.python[row] : of(runtime, row)?.rates[way];
  const runtimes = Object.keys(results.runtimes);
  const column = (WIDTH - LABELS) / runtimes.length;
  const rows = rowsOf(results, ({ name, rates }) =>
    name.startsWith("queue") &&
    (name in results.python ||
      WAYS.some(([way]) => way !== "module" && way in rates)));
  const most = Math.max(
    ...rows.flatMap((row) =>
      runtimes.flatMap((runtime) =>
        WAYS.map(([way]) => rate(runtime, row, way) ?? 0)
      )
    ),
  );
  let y = top;
  for (const row of rows) {
    const ways = WAYS.filter(([way]) =>
      runtimes.some((runtime) => rate(runtime, row, way) !== undefined)
    );
    const label = capital(row.replace(/^queue, /, ""));
    out.push(words(0, y + BAR, label));
    for (const [i, runtime] of runtimes.entries()) {
      const x = LABELS + i * column;
      for (const [j, [way, , colour]] of ways.entries()) {
        const value = rate(runtime, row, way);
        if (value === undefined) continue;
        const width = value / most * (column - 62);
        out.push(bar(x, y + j * STEP, width, colour));
        out.push(
          words(
            x + Math.max(width, 1) + 5,
            y + j * STEP + BAR - 1,
            compact(value),
            { class: "n" },
          ),
        );
      }
    }
    y += ways.length * STEP + 12;
  }
  return y;
}

/** Bars from 1, which is a bare port, on a logarithmic scale; returns where they end. */
function pipes(out: string[], top: number, results: Results, of: Of): number {
  const runtimes = Object.keys(results.runtimes);
  const column = (WIDTH - LABELS) / runtimes.length;
  const rows = rowsOf(
    results,
    ({ floor }) => floor[0]?.startsWith("raw") ?? false,
  );
  const ratio = (runtime: string, row: string) => {
    const result = of(runtime, row);
    const way = result && best(result);
    return way === undefined ? undefined : result!.ratios[way];
  };
  const all = rows.flatMap((row) => runtimes.map((name) => ratio(name, row)))
    .filter((value) => value !== undefined).map(Math.log2);
  const low = Math.min(-1, ...all);
  const scale = (column - 80) / (Math.max(1, ...all) - low);
  const bottom = top + rows.length * (STEP + 4);
  for (const [i, runtime] of runtimes.entries()) {
    const one = LABELS + i * column + 30 - low * scale;
    for (const [j, row] of rows.entries()) {
      const value = ratio(runtime, row);
      if (value === undefined) continue;
      const y = top + j * (STEP + 4);
      const width = Math.abs(Math.log2(value)) * scale;
      const better = value >= 1;
      out.push(
        bar(better ? one : one - width, y, width, better ? MODULE : WORSE),
      );
      out.push(
        words(
          better ? one + width + 5 : one - width - 5,
          y + BAR - 1,
          value.toFixed(2),
          {
            class: "n",
            "text-anchor": better ? "start" : "end",
          },
        ),
      );
    }
    out.push(
      element("path", {
        d: `M${one.toFixed(1)} ${top - 4}V${bottom}`,
        stroke: TEXT,
      }),
    );
  }
  for (const [j, row] of rows.entries()) {
    out.push(words(0, top + j * (STEP + 4) + BAR, capital(row)));
  }
  return bottom;
}

/** SVG. */
export function chart(all: Results): string {
  // One column for each runtime: the browser without shared memory is as in most pages.
  const shown = Object.entries(all.runtimes)
    .filter(([name]) => !name.endsWith(", isolated"));
  const results = { ...all, runtimes: Object.fromEntries(shown) };
  const runtimes = Object.keys(results.runtimes);
  const of: Of = (runtime, row) =>
    results.runtimes[runtime]!.find(({ name }) => name === row);
  const out: string[] = [];
  const heading = (y: number, text: string, more: string) => {
    out.push(words(0, y, text, { class: "h" }));
    out.push(words(0, y + 18, more));
    for (const [i, name] of runtimes.entries()) {
      const x = LABELS + i * (WIDTH - LABELS) / runtimes.length;
      const title = `${capital(name)} ${results.versions[name] ?? ""}`;
      out.push(words(x, y + 46, title, { class: "b" }));
    }
  };

  heading(18, "Queues", "Items {id, name} a second: longer is better");
  let x = LABELS + 130;
  for (const [, name, colour] of WAYS) {
    out.push(bar(x, 10, BAR, colour), words(x + 14, 18, name));
    x += 14 + name.length * 6.6 + 16;
  }
  let y = queues(out, 78, results, of);
  heading(
    y + 26,
    "Pipes",
    "Rate divided by that of a bare MessagePort, logarithmic: to the right of the line is better",
  );
  y = pipes(out, y + 88, results, of);
  out.push(
    words(
      0,
      y + 26,
      `Commit ${results.commit}, ${results.system}, ${results.cores} cores; medians of ${results.rounds} rounds. Made by deno task bench`,
      { class: "n" },
    ),
  );

  const height = y + 36;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${
      Math.ceil(height)
    }" role="img" aria-labelledby="t">`,
    element(
      "title",
      { id: "t" },
      "What deno task bench has measured; the same numbers are in results.md",
    ),
    `<style>text{font:12px system-ui,sans-serif;fill:${TEXT}}.h{font-size:17px;font-weight:700}.b{font-weight:700}.n{font-size:10.5px}</style>`,
    ...out,
    "</svg>",
    "",
  ].join("\n");
}

if (import.meta.main) {
  const path = (name: string) => `${import.meta.dirname}/${name}`;
  const results = JSON.parse(await Deno.readTextFile(path("results.json")));
  await Deno.writeTextFile(path("results.svg"), chart(results));
}
