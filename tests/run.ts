// `deno task test`, `test:bun`, `test:node`: one suite, three runtimes. Arguments pass through.

import {
  findBun,
  findNode,
  NODE_HOOK,
  run,
  stdArgs,
  testPaths,
} from "./_tools.ts";

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** Adds up a JUnit report, the one format that all three runners write. */
function count(report: string): Counts {
  let cases = 0;
  let failed = 0;
  let skipped = 0;
  const pattern = /<testcase\b[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g;
  for (const [, body = ""] of report.matchAll(pattern)) {
    cases++;
    if (/<(failure|error)\b/.test(body)) failed++;
    else if (/<skipped\b/.test(body)) skipped++;
  }
  return { passed: cases - failed - skipped, failed, skipped };
}

function given(args: string[]): boolean {
  return args.some((arg) => arg.endsWith(".ts"));
}

async function inDeno(report: string, args: string[]): Promise<number> {
  const options = ["-A", "--no-check", `--junit-path=${report}`];
  const files = given(args) ? [] : ["tests/"];
  const std = await stdArgs();
  return run(Deno.execPath(), ["test", ...options, ...std, ...args, ...files]);
}

async function inBun(report: string, args: string[]): Promise<number> {
  const [bun, first] = await findBun();
  const options = ["--reporter=junit", `--reporter-outfile=${report}`];
  const files = given(args) ? [] : ["./tests/"];
  // Bun takes a bare path for a filter.
  const rest = args.map((arg) => arg.endsWith(".ts") ? `./${arg}` : arg);
  return run(bun, [...first, "test", ...options, ...rest, ...files]);
}

async function inNode(report: string, args: string[]): Promise<number> {
  const [node, first] = await findNode();
  const options = [
    ...NODE_HOOK,
    "--test",
    "--test-reporter=spec",
    "--test-reporter-destination=stdout",
    "--test-reporter=junit",
    `--test-reporter-destination=${report}`,
  ];
  const files = given(args) ? [] : testPaths();
  return run(node, [...first, ...options, ...args, ...files]);
}

const runners: Record<
  string,
  (report: string, args: string[]) => Promise<number>
> = { deno: inDeno, bun: inBun, node: inNode };

const [name = "deno", ...args] = Deno.args;
const runner = runners[name];
if (!runner) throw new Error(`No runner ${name}`);

const report = await Deno.makeTempFile({ suffix: ".xml" });
const code = await runner(report, args);
const counts = count(await Deno.readTextFile(report));
await Deno.remove(report);
// A file that could not be loaded, a process that died: not a test, yet a failure.
if (code !== 0 && counts.failed === 0) counts.failed = 1;
if (code === 0 && counts.passed === 0) {
  console.error("No test ran");
  counts.failed = 1;
}
console.log(
  `${name}: ${counts.passed} passed, ${counts.failed} failed` +
    (counts.skipped > 0 ? `, ${counts.skipped} skipped` : ""),
);
Deno.exit(counts.failed > 0 ? 1 : 0);
