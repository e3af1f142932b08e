// Runs every example in a process of its own, shows what it prints, and checks it.
//
//     deno task demo      bun examples/demo.ts      node examples/demo.ts
//
// Arguments choose examples by a part of their name. The exit code is 1 when one prints anything else
// than it must, fails, or does not end.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const DEADLINE = 120_000;
const HERE = fileURLToPath(new URL(".", import.meta.url));
const MOST_LINES = 20;

interface Example {
  file: string;
  title: string;
  args?: string[];
  /** The lines that it must print, or what is wrong with those that it printed. */
  expect: string[] | ((lines: string[]) => string | undefined);
}

const examples: Example[] = [
  {
    file: "producer_consumer/main.ts",
    title:
      "Producer and consumer: ten objects through a pipe, then end of file",
    expect: [
      ...Array.from({ length: 10 }, (_, i) => `c1 收到包子:${i}`),
      "主进程",
    ],
  },
  {
    file: "adder/main.ts",
    title: "Adder: request and reply over a duplex pipe",
    expect: ["30", "server done", "主进程"],
  },
  {
    file: "hash_stream/main.ts",
    title: "A file of 128 MiB streamed to a worker and hashed there",
    expect: (lines) => {
      const [here, there, verdict, summary] = lines;
      const digest = here?.match(/^here: {3}([0-9a-f]{64})$/)?.[1];
      if (!digest) return "no SHA-256 digest in the first line";
      if (there !== `worker: ${digest}`) return "the digests differ";
      if (verdict !== "the same") return "it does not say that they agree";
      const grown = summary?.match(
        /^128 MiB streamed, memory grew by (-?\d+) MiB$/,
      );
      if (!grown) return "it does not say by how much memory grew";
      return Number(grown[1]) < 64 ? undefined : "memory did not stay flat";
    },
  },
  {
    file: "queue_basics.ts",
    title: "Queue with a bound of three: full, and empty",
    // Each runtime prints an object in its own way.
    expect: (lines) =>
      differs(
        ["队列已满{name:xiao}[1,2,3,4,5]shawn队列已空"],
        [lines.join("").replace(/[\s'"]/g, "").replaceAll(",}", "}")],
      ),
  },
  {
    file: "hash_files/main.ts",
    title: "Every file of this repository hashed, one worker per core",
    expect: (lines) => hashed(join(HERE, ".."), lines),
  },
  {
    file: "hash_files/main.ts",
    args: [HERE, "--crash"],
    title: "The same with the examples, and a worker that crashes",
    expect: (lines) =>
      differs([
        "a worker died and is replaced",
        "1 without a result: put again",
      ], lines.slice(0, 2)) ?? hashed(HERE, lines.slice(2)),
  },
  {
    file: "pipeline/main.ts",
    title: "Three stages over two queues, ended by join() and shutdown()",
    expect: ["1229 primes below 10000, their sum is 5736396"],
  },
  {
    file: "node_threads/main.ts",
    title: "Jobs and results with a thread of node:worker_threads",
    expect: ["1 × 1 = 1", "2 × 2 = 4", "3 × 3 = 9"],
  },
];

/** Whether every line but the last two is the right digest of a file, in order. */
function hashed(folder: string, lines: string[]): string | undefined {
  const [summary, verdict] = lines.slice(-2);
  const files = lines.slice(0, -2).map((line) => line.slice(66));
  if (files.length === 0) return "no files";
  for (const [i, file] of files.entries()) {
    if (i > 0 && file <= files[i - 1]!) return `${file} is not in order`;
    const bytes = readFileSync(join(folder, file));
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    if (lines[i] !== `${sha256}  ${file}`) return `${file}: wrong digest`;
  }
  if (!summary?.startsWith(`${files.length} files, `)) {
    return `expected ${files.length} files, printed ${quote(summary)}`;
  }
  return differs(["the same without workers"], [verdict ?? ""]);
}

/** The first difference. */
function differs(expected: string[], lines: string[]): string | undefined {
  for (let i = 0; i < Math.max(expected.length, lines.length); i++) {
    if (lines[i] !== expected[i]) {
      return `expected ${quote(expected[i])}, printed ${quote(lines[i])}`;
    }
  }
  return undefined;
}

function quote(line: string | undefined): string {
  return line === undefined ? "no more lines" : JSON.stringify(line);
}

/** Prints lines, without the middle when they are many. */
function show(lines: string[]): void {
  const left = lines.length - MOST_LINES;
  const shown = left <= 0 ? lines : [
    ...lines.slice(0, MOST_LINES / 2),
    `... ${left} more lines ...`,
    ...lines.slice(-MOST_LINES / 2),
  ];
  for (const line of shown) console.log(`  ${line}`);
}

/** The arguments that make this runtime run a program. */
function command(file: string, args: string[]): string[] {
  const path = fileURLToPath(new URL(file, import.meta.url));
  return "Deno" in globalThis
    ? ["run", "-A", path, ...args]
    : [...process.execArgv, path, ...args];
}

/** Runs an example; resolves to what is wrong with it. */
function run(
  { file, args = [], expect }: Example,
): Promise<string | undefined> {
  const child = spawn(process.execPath, command(file, args), {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    process.stderr.write(text);
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, DEADLINE);
  return new Promise((done, fail) => {
    child.on("error", fail);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      const lines = printed.split(/\r?\n/);
      if (lines.at(-1) === "") lines.pop();
      show(lines);
      if (late) return done(`it did not end within ${DEADLINE / 1000} s`);
      if (code !== 0) return done(`it ended with ${code ?? signal}`);
      done(
        Array.isArray(expect) ? differs(expect, lines) : expect(lines),
      );
    });
  });
}

const chosen = examples.filter(({ file }) => {
  const parts = process.argv.slice(2);
  return parts.length === 0 || parts.some((part) => file.includes(part));
});
const failures: string[] = [];
for (const example of chosen) {
  const { file, title, args = [] } = example;
  console.log(`\n${title}\n  [examples/${[file, ...args].join(" ")}]`);
  const started = performance.now();
  const wrong = await run(example);
  const ms = Math.round(performance.now() - started);
  console.log(wrong ? `  NOT OK: ${wrong}` : `  ok (${ms} ms)`);
  if (wrong) failures.push(`${file}: ${wrong}`);
}

console.log();
for (const failure of failures) {
  console.error(`The demo failed: examples/${failure}`);
}
if (chosen.length === 0) console.error("The demo failed: no such example");
console.log(
  `demo: ${chosen.length - failures.length} passed, ${failures.length} failed`,
);
process.exitCode = failures.length > 0 || chosen.length === 0 ? 1 : 0;
