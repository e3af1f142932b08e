// The code of README.md and docs/*.md: every TypeScript block is type checked and run.
//
// A block is a program of its own, unless its first line names a file (`// main.ts`): named blocks between
// two headings make one program, which also sees the files named before in the document; `main.ts` is run.
// A `text` block after a program is what it prints. `ts ignore` marks what is no whole program.
//
// Arguments choose documents. What is named here and is not ours has a stand-in in `tests/docs/`.

import { ROOT } from "./_tools.ts";

const DEADLINE = 30_000;
const HERE = import.meta.dirname!;

interface Program {
  /** Where it begins. */
  place: string;
  /** The files that were named in its own section; empty: it has no names. */
  own: Set<string>;
  files: Map<string, string>;
  /** What it must print; undefined: anything. */
  prints?: string;
}

/** The programs of a document. */
function programs(document: string, text: string): Program[] {
  const found: Program[] = [];
  let open: Program | undefined;
  let named: Program | undefined;
  let fence: { info: string; line: number; code: string[] } | undefined;
  for (const [i, line] of text.split("\n").entries()) {
    if (fence === undefined) {
      if (line.startsWith("#")) open = undefined;
      if (line.startsWith("```")) {
        fence = { info: line.slice(3).trim(), line: i + 1, code: [] };
      }
    } else if (!line.startsWith("```")) fence.code.push(line);
    else {
      const { info, code } = fence;
      const place = `${document}:${fence.line}`;
      fence = undefined;
      if (info === "text" && open) open.prints ??= code.join("\n");
      if (info !== "ts") continue;
      const name = code[0]?.match(/^\/\/ ([\w/-]+\.ts)$/)?.[1];
      if (!name || !open || open.own.size === 0 || open.own.has(name)) {
        const files = new Map(name ? named?.files : []);
        files.delete("main.ts");
        open = { place, own: new Set(), files };
        found.push(open);
      }
      open.files.set(name ?? "main.ts", code.join("\n") + "\n");
      if (!name) continue;
      open.own.add(name);
      named = open;
    }
  }
  return found;
}

/** Tests that the table of runtimes names, and that are not there. */
async function unknownTests(text: string): Promise<string[]> {
  const section = text.split("\n## ").find((s) =>
    s.startsWith("Where it runs")
  );
  const names = [...section!.matchAll(/\| `([^`]+)` +\|$/gm)]
    .map(([, name]) => name!);
  let source = await Deno.readTextFile(`${HERE}/edge/run.ts`);
  for await (const { name } of Deno.readDir(HERE)) {
    if (!name.endsWith("_test.ts")) continue;
    source += await Deno.readTextFile(`${HERE}/${name}`);
  }
  return names.filter((name) => !source.includes(`"${name}"`));
}

async function deno(args: string[], cwd: string): Promise<[number, string]> {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), DEADLINE);
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd,
    stdin: "null",
    env: { NO_COLOR: "1" },
    signal: stop.signal,
  }).output();
  clearTimeout(timer);
  const errors = new TextDecoder().decode(stderr);
  if (stop.signal.aborted) return [1, `not done within ${DEADLINE} ms`];
  return [code, code === 0 ? new TextDecoder().decode(stdout) : errors];
}

/** Type checks files as the kind of thread that they are for. */
async function check(folder: string, programs: Program[]): Promise<string> {
  const main: string[] = [];
  const worker: string[] = [];
  for (const [i, { files }] of programs.entries()) {
    for (const [name, code] of files) {
      (code.includes("self.onmessage") ? worker : main).push(`${i}/${name}`);
    }
  }
  let errors = "";
  for (const [config, files] of [["main", main], ["worker", worker]] as const) {
    if (files.length === 0) continue;
    const args = ["check", "--quiet", "--config", `${config}.json`];
    const [code, output] = await deno([...args, ...files], folder);
    if (code !== 0) errors += output;
  }
  return errors;
}

async function run(folder: string, i: number, program: Program) {
  if (!program.files.has("main.ts")) return "";
  const options = ["-A", "--quiet", "--no-check", "--config", "main.json"];
  const [code, output] = await deno(
    ["run", ...options, "--unstable-kv", `${i}/main.ts`],
    folder,
  );
  if (code !== 0) return output;
  const { prints } = program;
  if (prints === undefined || output.trimEnd() === prints.trimEnd()) return "";
  return `It printed\n${output}instead of\n${prints}\n`;
}

/** Writes the programs, and the configuration of both kinds of threads. */
async function write(folder: string, programs: Program[]): Promise<void> {
  const { compilerOptions } = JSON.parse(
    await Deno.readTextFile(`${ROOT}/deno.json`),
  );
  const url = (path: string) => new URL(path, import.meta.url).href;
  const imports = {
    "@ipc/multiprocessing": url("../mod.ts"),
    "bullmq": url("docs/bullmq.ts"),
    "@nats-io/transport-node": url("docs/nats.ts"),
    "@nats-io/jetstream": url("docs/nats.ts"),
  };
  for (const name of ["main", "worker"]) {
    const lib = name === "main"
      ? ["deno.window", "deno.unstable"]
      : ["deno.worker"];
    const options = { ...compilerOptions, isolatedDeclarations: false, lib };
    const config = { imports, compilerOptions: options, lock: false };
    await Deno.writeTextFile(`${folder}/${name}.json`, JSON.stringify(config));
  }
  for (const [i, { files }] of programs.entries()) {
    await Deno.mkdir(`${folder}/${i}`);
    for (const [name, code] of files) {
      await Deno.writeTextFile(`${folder}/${i}/${name}`, code);
    }
  }
}

/** The documents: those that were asked for, or all. */
function documents(): string[] {
  if (Deno.args.length > 0) return Deno.args;
  const docs = [...Deno.readDirSync(`${HERE}/../docs`)]
    .map(({ name }) => name)
    .filter((name) => name.endsWith(".md"))
    .sort();
  return ["README.md", ...docs.map((name) => `docs/${name}`)];
}

const all: Program[] = [];
let failed = 0;
for (const document of documents()) {
  const text = await Deno.readTextFile(`${HERE}/../${document}`);
  all.push(...programs(document, text));
  if (document !== "README.md") continue;
  for (const name of await unknownTests(text)) {
    failed++;
    console.error(`${document} names a test that is not there: ${name}`);
  }
}
const folder = await Deno.makeTempDir({ prefix: "docs-" });
try {
  await write(folder, all);
  const errors = await check(folder, all);
  if (errors !== "") {
    failed++;
    const place = (_: string, i: string) => `${all[Number(i)]!.place} `;
    console.error(errors.replaceAll(/file:\S*\/docs-\w+\/(\d+)\//g, place));
  }
  const queue = [...all.entries()];
  const worker = async () => {
    for (let next; (next = queue.shift());) {
      const [i, program] = next;
      const wrong = await run(folder, i, program);
      if (wrong === "") continue;
      failed++;
      console.error(`${program.place}\n${wrong}`);
    }
  };
  await Promise.all(
    Array.from({ length: navigator.hardwareConcurrency }, worker),
  );
} finally {
  await Deno.remove(folder, { recursive: true });
}
// One more for the type check.
console.log(`docs: ${all.length + 1 - failed} passed, ${failed} failed`);
Deno.exit(failed > 0 ? 1 : 0);
