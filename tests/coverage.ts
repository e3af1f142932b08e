// `deno task coverage`: what of the published files the tests run, in Deno, in Node, in Node that passes for an
// edge runtime, and in Chromium: windows, a worker, and windows that pass for others. The lines and branches of
// all together; and what never ran, which is a failure. Arguments: test files (nothing that never ran is a
// failure then). COVERAGE=folder keeps what was counted.
//
// All of them count by offsets in the same text: the file with blanks for its types.

import { stripTypeScriptTypes } from "node:module";
import { PURE } from "./_bundle.ts";
import { Covered, type Script, type Share } from "./_covered.ts";
import { findNode, NODE_HOOK, published, ROOT, testPaths } from "./_tools.ts";

const files = Deno.args.length > 0 ? Deno.args : testPaths();
const folder = Deno.env.get("COVERAGE") ?? await Deno.makeTempDir();
const texts = new Map(
  published().map((name) => [
    name,
    stripTypeScriptTypes(Deno.readTextFileSync(ROOT + name)),
  ]),
);
let failed = false;

/** The lines at the end of an output: what failed. */
const LAST_LINES = 60;

/** Runs tests, and prints what they print last if they fail. */
async function tested(
  what: string,
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<void> {
  const begun = performance.now();
  const child = new Deno.Command(command, {
    args,
    env: { SEED: Deno.env.get("SEED") ?? "1", ...env },
    cwd: ROOT,
    stdin: "null",
  });
  const { success, stdout, stderr } = await child.output();
  const seconds = Math.round((performance.now() - begun) / 1000);
  console.log(`${what}: ${success ? "passed" : "FAILED"} in ${seconds} s`);
  if (success) return;
  failed = true;
  for (const text of [stdout, stderr]) {
    const lines = new TextDecoder().decode(text).split("\n");
    console.error(lines.slice(-LAST_LINES).join("\n"));
  }
}

const HERE = new URL("..", import.meta.url).href;

/** What only Deno runs is run by these. Its workers take a second more each when they are counted. */
const IN_DENO = ["connection", "endpoint", "moving"]
  .map((name) => `tests/${name}_test.ts`);

async function inDeno(to: string): Promise<void> {
  // Deno counts in the text that it makes of TypeScript: it is given the one without types instead.
  const base = new URL("std/import_map.json", import.meta.url);
  const { imports } = JSON.parse(await Deno.readTextFile(base));
  for (const [name, path] of Object.entries(imports)) {
    imports[name] = `${path}`.startsWith(".") ? new URL(`${path}`, base) : path;
  }
  await Deno.mkdir(`${to}/published`, { recursive: true });
  const there = `file://${to}/published/`;
  for (const [name, text] of texts) {
    const plain = new URL(name.replace(/ts$/, "js"), there);
    await Deno.writeTextFile(plain, text);
    imports[HERE + name] = imports[there + name] = plain;
  }
  const some = files.filter((file) => IN_DENO.includes(file));
  if (some.length === 0) return;
  const map = `${to}/import_map.json`;
  await Deno.writeTextFile(map, JSON.stringify({ imports }));
  await tested("Deno", Deno.execPath(), [
    "test",
    "-A",
    "--no-check",
    `--coverage=${to}`,
    "--coverage-raw-data-only",
    `--import-map=${map}`,
    ...some,
  ]);
}

const [node, first] = await findNode();

async function inNode(to: string): Promise<void> {
  const args = [...first, ...NODE_HOOK, "--test", ...files];
  await tested("Node", node, args, { NODE_V8_COVERAGE: to });
}

async function inOneIsolate(to: string): Promise<void> {
  const some = files.map((path) => path.replace(/^.*\//, ""))
    .filter((name) => !PURE.includes(name));
  const script = "tests/edge/alone.ts";
  for (const kind of ["workerd", "edge"]) {
    const args = [...first, ...NODE_HOOK, script, kind, ...some];
    await tested(`Node as ${kind}`, node, args, { NODE_V8_COVERAGE: to });
  }
}

async function inChromium(to: string): Promise<void> {
  await Deno.mkdir(to);
  const args = ["run", "-A", "tests/browser/run.ts", "chromium", ...files];
  await tested("Chromium", Deno.execPath(), args, { COVERAGE: to });
}

const RUNS = ["deno", "node", "isolate", "chromium"];

/** The published file that a run names so, if it is one. */
function nameOf(run: string, url: string): string {
  const [path] = url.split("?") as [string];
  if (run !== "deno" && path.startsWith(HERE)) return path.slice(HERE.length);
  return path.replace(/^.*\/published\//, "").replace(/\.js$/, ".ts");
}

/** What has been run, by file. */
function read(): Map<string, Covered> {
  const covered = new Map(
    [...texts].map(([name, text]) => [name, new Covered(text)]),
  );
  for (const run of RUNS) {
    for (const { name, isFile } of Deno.readDirSync(`${folder}/${run}`)) {
      if (!isFile || !name.endsWith(".json")) continue;
      const text = Deno.readTextFileSync(`${folder}/${run}/${name}`);
      const { result, ...script } = JSON.parse(text);
      for (const one of (result ?? [script]) as Script[]) {
        covered.get(nameOf(run, one.url ?? ""))?.add(one);
      }
    }
  }
  return covered;
}

function share({ reached, all }: Share): string {
  return `${(all === 0 ? 100 : 100 * reached / all).toFixed(1)} %`.padStart(7);
}

await Promise.all([
  inNode(`${folder}/node`),
  (async () => {
    await inDeno(`${folder}/deno`);
    await inOneIsolate(`${folder}/isolate`);
    await inChromium(`${folder}/chromium`);
  })(),
]);

const covered = read();
if (!Deno.env.has("COVERAGE")) await Deno.remove(folder, { recursive: true });
const totals = {
  lines: { reached: 0, all: 0 },
  branches: { reached: 0, all: 0 },
};
const never: string[] = [];
for (const [name, file] of covered) {
  const sums = { lines: file.lines(), branches: file.branches() };
  console.log(
    `${name.padEnd(18)} lines ${share(sums.lines)}  branches ${
      share(sums.branches)
    }`,
  );
  for (const what of ["lines", "branches"] as const) {
    totals[what].reached += sums[what].reached;
    totals[what].all += sums[what].all;
  }
  const source = await Deno.readTextFile(ROOT + name);
  for (const { start, end } of file.missed()) {
    const line = source.slice(0, start).split("\n").length;
    const code = source.slice(start, end).replace(/\s+/g, " ").slice(0, 100);
    never.push(`${name}:${line}: ${code}`);
  }
}
if (never.length > 0) console.log(`Never run:\n${never.join("\n")}`);
const { lines, branches } = totals;
console.log(
  `coverage: lines ${share(lines).trim()} of ${lines.all}, ` +
    `branches ${share(branches).trim()} of ${branches.all}`,
);
if (Deno.args.length === 0 && never.length > 0) failed = true;
Deno.exit(failed ? 1 : 0);
