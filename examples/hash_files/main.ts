// SHA-256 of every file under a folder, one worker per core.
//
//     main.ts [folder] [--crash]
//
// No file is lost when a worker dies: a path counts as done when its result is here, and what has none
// is put again. `--crash` makes the worker that takes the first path throw, once, to show that.

import { readdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { Queue } from "../../mod.ts";
import { start } from "../_worker.ts";
import { digest } from "./digest.ts";
import type { Args, Result } from "./worker.ts";

const SKIPPED = [".git", "node_modules"];
/** A program that dies wherever it is started is not worth being started for ever. */
const MOST_CRASHES = 100;

const flags = process.argv.slice(2);
const folder = resolve(
  flags.find((flag) => !flag.startsWith("--")) ??
    fileURLToPath(new URL("../..", import.meta.url)),
);
const workers = availableParallelism();
let crashes = 0;

const files = await list(folder);
let crashAt = flags.includes("--crash") ? files[0] : undefined;
const digests = new Map<string, string>();
const started = performance.now();
let missing = files;
while (missing.length > 0) {
  await hash(missing);
  crashAt = undefined;
  missing = files.filter((path) => !digests.has(path));
  if (missing.length > 0) {
    say(`${missing.length} without a result: put again`);
  }
}
const ms = Math.round(performance.now() - started);

for (const path of files) {
  console.log(`${digests.get(path)}  ${path.slice(folder.length + 1)}`);
}
console.log(`${files.length} files, ${workers} workers, ${ms} ms`);

let same = digests.size === files.length;
for (const path of files) same &&= digests.get(path) === await digest(path);
console.log(same ? "the same without workers" : "NOT THE SAME WITHOUT WORKERS");
if (!same) process.exitCode = 1;

/** One round: shares the paths out over the workers, and takes in their results. */
async function hash(round: string[]): Promise<void> {
  const paths = new Queue<string>(64); // the workers are never far behind
  const results = new Queue<Result>();
  const staff = Array.from({ length: workers }, () => employ(paths, results));
  const ended = Promise.all(staff).finally(() => results.shutdown());

  await Promise.all([
    paths.put_many(round).then(() => paths.shutdown()),
    collect(results),
    ended,
  ]);
  paths.close();
  results.close();
}

/** Takes results in until the queue is shut down and empty. */
async function collect(results: Queue<Result>): Promise<void> {
  for await (const { path, sha256 } of results) {
    digests.set(path, sha256);
    progress();
  }
}

/** Keeps one worker at work until there is none left; replaces it when it dies. */
async function employ(
  paths: Queue<string>,
  results: Queue<Result>,
): Promise<void> {
  const args: Args = { paths, results, crashAt };
  while (true) {
    try {
      await start(new URL("./worker.ts", import.meta.url), args).join();
      return;
    } catch (error) {
      if (++crashes > MOST_CRASHES) throw error;
      say("a worker died and is replaced");
    }
  }
}

/** Every file under a folder, sorted by path. */
async function list(folder: string): Promise<string[]> {
  const files: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (SKIPPED.includes(entry.name)) continue;
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) files.push(...await list(path));
    else if (entry.isFile()) files.push(path);
  }
  return files.sort();
}

/** Progress: one line that is written over, on a terminal only. */
function progress(): void {
  if (!process.stdout.isTTY) return;
  process.stdout.write(`\r${digests.size} of ${files.length} files`);
  if (digests.size === files.length) process.stdout.write("\r\x1b[K");
}

function say(line: string): void {
  if (process.stdout.isTTY) process.stdout.write("\r\x1b[K");
  console.log(line);
}
