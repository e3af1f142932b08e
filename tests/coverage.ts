// `deno task coverage`: what of the published files the tests reach in Deno, and what only Node reaches of
// the rest. At the end the lines and branches that neither does: they are for browsers (Web Locks) and edge
// runtimes, whose tests are not measured. Arguments: test files.

import {
  findNode,
  NODE_HOOK,
  ROOT,
  run,
  stdArgs,
  testPaths,
} from "./_tools.ts";

/** How often each line was run, and each branch, by the line that it begins at. */
interface Reached {
  lines: Map<number, number>;
  branches: Map<number, number[]>;
}

/** Reads the format that both runtimes write; files by name. */
function parse(lcov: string): Map<string, Reached> {
  const files = new Map<string, Reached>();
  let file: Reached | undefined;
  for (const row of lcov.split("\n")) {
    const [, kind, rest = ""] = row.match(/^(\w+):(.*)$/) ?? [];
    if (kind === "SF") {
      const name = rest.replaceAll("\\", "/").replace(/^.*\//, "");
      file = { lines: new Map(), branches: new Map() };
      if (!/(^|\/)(tests|examples|bench)\//.test(rest)) files.set(name, file);
    } else if (kind === "DA") {
      const [line, count] = rest.split(",").map(Number) as [number, number];
      file!.lines.set(line, count);
    } else if (kind === "BRDA") {
      const [line, , , taken] = rest.split(",");
      const count = taken === "-" ? 0 : Number(taken);
      const known = file!.branches.get(Number(line)) ?? [];
      file!.branches.set(Number(line), [...known, count]);
    }
  }
  return files;
}

const files = Deno.args.length > 0 ? Deno.args : testPaths();
const folder = await Deno.makeTempDir();

let failed = 0;

async function tested(command: string, args: string[]): Promise<void> {
  if (await run(command, args) === 0) return;
  console.error(`Tests failed in ${command}`);
  failed = 1;
}

async function inDeno(): Promise<Map<string, Reached>> {
  const to = `${folder}/deno`;
  const options = ["-A", "--no-check", "--quiet", `--coverage=${to}`];
  const std = await stdArgs();
  const args = ["test", ...options, ...std, ...files];
  await tested(Deno.execPath(), args);
  const lcov = `${folder}/deno.lcov`;
  const report = ["coverage", to, "--lcov", `--output=${lcov}`];
  await run(Deno.execPath(), report);
  return parse(await Deno.readTextFile(lcov));
}

async function inNode(): Promise<Map<string, Reached>> {
  const [node, first] = await findNode();
  const lcov = `${folder}/node.lcov`;
  const options = [
    "--test",
    "--experimental-test-coverage",
    "--test-coverage-include=*.ts",
    "--test-reporter=lcov",
    `--test-reporter-destination=${lcov}`,
  ];
  const args = [...first, ...NODE_HOOK, ...options, ...files];
  await tested(node, args);
  return parse(await Deno.readTextFile(lcov));
}

const [deno, node] = [await inDeno(), await inNode()];
await Deno.remove(folder, { recursive: true });

/** Sums; `deno` is what Deno reaches, `both` what one of the two does. */
const none = () => ({
  lines: { all: 0, deno: 0, both: 0 },
  branches: { all: 0, deno: 0, both: 0 },
});
type Sums = ReturnType<typeof none>;

function count(sums: Sums[keyof Sums], here: boolean, there: boolean): void {
  sums.all++;
  if (here) sums.deno++;
  if (here || there) sums.both++;
}

function print(name: string, { lines, branches }: Sums): void {
  const share = (part: number, all: number) =>
    `${(all === 0 ? 100 : 100 * part / all).toFixed(1)} %`.padStart(7);
  const both = ({ all, deno, both }: Sums[keyof Sums]) =>
    `${share(deno, all)}, with Node ${share(both, all)}`;
  console.log(
    `${name.padEnd(18)} lines ${both(lines)}; branches ${both(branches)}`,
  );
}

const totals = none();
const missed: string[] = [];
for (const [name, { lines, branches }] of [...deno].sort()) {
  const other = node.get(name);
  const source = (await Deno.readTextFile(`${ROOT}/${name}`)).split("\n");
  const sums = none();
  const left = new Set<number>();
  for (const [line, times] of lines) {
    const there = (other?.lines.get(line) ?? 0) > 0;
    for (const { lines } of [sums, totals]) count(lines, times > 0, there);
    if (times === 0 && !there) left.add(line);
  }
  for (const [line, taken] of branches) {
    // The two count branches differently: in Node all of a line have to be taken.
    const there = (other?.lines.get(line) ?? 0) > 0 &&
      (other?.branches.get(line) ?? []).every((times) => times > 0);
    for (const times of taken) {
      for (const { branches } of [sums, totals]) {
        count(branches, times > 0, there);
      }
      if (times === 0 && !there) left.add(line);
    }
  }
  for (const line of [...left].sort((a, b) => a - b)) {
    missed.push(`${name}:${line}: ${source[line - 1]!.trim()}`);
  }
  print(name, sums);
}

console.log(`Reached neither in Deno nor in Node:\n${missed.join("\n")}`);
print("all files", totals);
Deno.exit(failed);
