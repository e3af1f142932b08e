// `deno task bench`: the rows of every file here, in Deno, Bun, Node and Chromium, and Python, one table.
//
//     deno task bench                    everything; writes results.json, .md and .svg
//     deno task bench deno node          in these runtimes only
//     deno task bench pipe.ts "64 B"     these files, the rows whose names contain one of these words
//     deno task bench idle               how many bytes idle things take, and the size of the module
//     deno task bench --rounds=15
//
// A row belongs to the file that exports it from `make()`; a new file is found by itself.

import { moduleSize } from "../tests/_bundle.ts";
import { find, output, ROOT } from "../tests/_tools.ts";
import { hasChromium, measureInChromium } from "./_browser.ts";
import { chart } from "./_chart.ts";
import { IDLE } from "./_idle.ts";
import { report, type Results } from "./_report.ts";
import type { Result } from "./_rows.ts";

/** npm packages that are measured beside the module; they are no dependency of it. */
const PEERS: Record<string, string> = {
  comlink: "4.4.2",
  multithreading: "0.3.52",
};
const HERE = `${ROOT}/bench`;
/** Pages, by whether they have shared memory. */
const PAGES = { chromium: false, "chromium, isolated": true };

type Command = [command: string, args: string[]];

const runtimes: Record<string, () => Promise<Command>> = {
  deno: () => Promise.resolve([Deno.execPath(), ["run", "-A", "--no-check"]]),
  bun: () => find("bun", "bun@1.4.5", (version) => version.startsWith("1.4.")),
  node: async () => {
    const [node, args] = await find(
      "node",
      "node@26",
      (version) => Number(version.split(".")[0]) >= 26,
    );
    return [node, [...args, "--disable-warning=ExperimentalWarning"]];
  },
};

/** Installs the peers outside of the repository; `null`: npm does not answer. */
async function install(): Promise<string | null> {
  const names = Object.entries(PEERS).map(([name, at]) => `${name}@${at}`);
  const home = `${await Deno.makeTempDir()}`;
  const npm = Deno.build.os === "windows" ? "npm.cmd" : "npm";
  const options = ["--prefix", home, "--no-save", "--no-package-lock"];
  const done = await output(npm, [
    "install",
    "--silent",
    ...options,
    ...names,
  ], 60_000);
  if (done === null) console.log("peers are left out: npm does not answer");
  return done === null ? null : `${home}/node_modules`;
}

/** Runs a command and hands over its lines of JSON as they come. */
async function lines<T>(
  command: string,
  args: string[],
  line: (value: T) => void,
): Promise<void> {
  const child = new Deno.Command(command, {
    args,
    cwd: ROOT,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let text = "";
  for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += part;
    const whole = text.split("\n");
    text = whole.pop()!;
    for (const one of whole) if (one.startsWith("{")) line(JSON.parse(one));
  }
  const { success } = await child.status;
  if (!success) throw new Error(`${command} failed`);
}

function show(runtime: string, { name, floor, rates, ratios }: Result): void {
  const best = floor.filter((way) => way in rates)
    .sort((a, b) => rates[b]! - rates[a]!)[0];
  const ratio = best ? `${ratios[best]!.toFixed(2)} of ${best}` : "";
  const all = Object.entries(rates)
    .map(([way, rate]) => `${way} ${Math.round(rate).toLocaleString("en")}/s`);
  console.log(`${runtime}  ${name}: ${ratio}  (${all.join(", ")})`);
}

const args = [...Deno.args];
const rounds = Number(
  args.find((arg) => arg.startsWith("--rounds="))?.split("=")[1] ?? 7,
);
const words = args.filter((arg) => !arg.startsWith("--"));
const chosen = words.filter((word) => word in runtimes || word in PAGES);
const all = [...Deno.readDirSync(HERE)]
  .map(({ name }) => name)
  .filter((name) => /^[a-z]\w*\.ts$/.test(name))
  .filter((name) => name !== "run.ts" && name !== "main.ts")
  .sort((a, b) => a === "pipe.ts" ? -1 : b === "pipe.ts" ? 1 : a < b ? -1 : 1);
const named = (word: string) =>
  all.find((file) => file === word || file === `${word}.ts`);
const files = words.map(named).filter((file) => file !== undefined);
const idle = words.length === 0 || words.includes("idle");
const rows = words.filter((word) =>
  !chosen.includes(word) && !named(word) && word !== "idle"
);

const task = {
  files: files.length > 0 ? files : words.includes("idle") ? [] : all,
  rows,
  rounds,
  peers: null as string | null,
};
if (["peers.ts", "queue.ts"].some((file) => task.files.includes(file))) {
  task.peers = await install();
}

const results: Results = {
  commit: (await output("git", ["rev-parse", "--short", "HEAD"]))?.trim() ??
    "unknown",
  cores: navigator.hardwareConcurrency,
  system: `${Deno.build.os} ${Deno.build.arch}`,
  rounds,
  versions: { ...PEERS },
  runtimes: {},
  python: {},
  idle: {},
  size: await moduleSize(),
};
for (const name of Object.keys(runtimes)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  const [command, options] = await runtimes[name]!();
  const version = await output(command, [
    ...options.filter((option) =>
      !option.startsWith("-A") && option !== "run" && option !== "--no-check"
    ),
    "--version",
  ], 120_000);
  results.versions[name] = version?.match(/\d+\.\d+\.\d+/)?.[0] ?? "unknown";
  const measured: Result[] = results.runtimes[name] = [];
  const program = [...options, "bench/main.ts", JSON.stringify(task)];
  await lines<Result>(command, program, (result) => {
    measured.push(result);
    show(name, result);
  });
  for (const what of idle ? IDLE : []) {
    const gc = { deno: "--v8-flags=--expose-gc", node: "--expose-gc" }[name];
    const args = [...options, ...gc ? [gc] : [], "bench/_idle.ts", what];
    await lines<{ bytes: number }>(command, args, ({ bytes }) => {
      (results.idle[name] ??= {})[what] = bytes;
      console.log(`${name}  ${what}: ${bytes} bytes`);
    });
  }
}
for (const [name, isolated] of Object.entries(PAGES)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  if (task.files.length === 0) break;
  if (!hasChromium()) {
    console.log("chromium is left out: it is not installed");
    break;
  }
  const measured: Result[] = results.runtimes[name] = [];
  const alone = { ...task, peers: null }; // they are on this disk
  results.versions.chromium = await measureInChromium(
    alone,
    isolated,
    (result) => {
      measured.push(result);
      show(name, result);
    },
  );
}
const python = (await output("python3", ["--version"]))?.trim().split(" ")[1];
if (python && chosen.length === 0) {
  results.versions.python = python;
  await lines<{ name: string; rate: number }>("python3", [
    "bench/python.py",
    String(rounds),
    ...rows,
  ], ({ name, rate }) => results.python[name] = rate);
}
if (task.peers) {
  await Deno.remove(task.peers.replace(/node_modules$/, ""), {
    recursive: true,
  });
}

const table = report(results);
console.log(`\n${table}`);
// A part of it is for the eye only.
if (words.length === 0) {
  await Deno.writeTextFile(
    `${HERE}/results.json`,
    JSON.stringify(results, null, 2) + "\n",
  );
  await Deno.writeTextFile(`${HERE}/results.md`, table);
  await Deno.writeTextFile(`${HERE}/results.svg`, chart(results));
}
