// `deno task test:workerd`, `deno task test:edge`: the part of the suite that one isolate can run, in a real
// edge runtime, each test in a request of its own. Arguments: test files, `--filter text`.

import { bundleOne, PURE } from "../_bundle.ts";
import { chosen, type Outcome, Report } from "../_report.ts";
import { NPX, testFiles } from "../_tools.ts";

const WORKERD = "workerd@1.20261117.1";
const EDGE_RUNTIME = "edge-runtime@4.0.1";
// edge-runtime takes what the language has from the Node that runs it.
const NODE = "node@26";
const PATIENCE = 60_000;

const DEFINE = { "import.meta.url": '"file:///tests/any_test.ts"' };

function imports(files: string[]): string {
  return files.map((file) => `import "./${file}";\n`).join("");
}

async function workerd(
  files: string[],
  port: number,
  cwd: string,
): Promise<string[]> {
  const text = `import { answer } from "./edge/isolate.ts";
    ${imports(files)}
    export default { fetch: answer };`;
  const module = await bundleOne(text, { define: DEFINE });
  const config = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "tests", worker = .tests)],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "tests")],
);
const tests :Workerd.Worker = (
  modules = [(name = "tests.js", esModule = embed "tests.js")],
  compatibilityDate = "2026-11-01",
);`;
  await Deno.writeTextFile(`${cwd}/tests.js`, module);
  await Deno.writeTextFile(`${cwd}/config.capnp`, config);
  return [NPX, "--yes", WORKERD, "serve", "config.capnp"];
}

async function edge(
  files: string[],
  port: number,
  cwd: string,
): Promise<string[]> {
  const text = `import { listen } from "./edge/isolate.ts";
    ${imports(files)}
    listen();`;
  const module = await bundleOne(text, { define: DEFINE });
  // It takes a script, and no module.
  const script = `(async () => {\n${module}\n})();`;
  await Deno.writeTextFile(`${cwd}/tests.js`, script);
  const packages = ["-p", NODE, "-p", EDGE_RUNTIME];
  const options = ["--listen", "--port", String(port), "tests.js"];
  return [NPX, "--yes", ...packages, "edge-runtime", ...options];
}

const ONE_ISOLATE = testFiles().filter((file) => !PURE.includes(file));

const kinds: Record<string, typeof workerd> = { workerd, edge };

function freePort(): number {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const { port } = listener.addr;
  listener.close();
  return port;
}

async function ask<T>(url: string): Promise<T> {
  const response = await fetch(url, { signal: AbortSignal.timeout(PATIENCE) });
  if (!response.ok) {
    throw new Error(`${response.status} ${await response.text()}`);
  }
  return await response.json();
}

/** The names of the tests, once the runtime answers. */
async function names(url: string, ended: () => boolean): Promise<string[]> {
  while (true) {
    try {
      return await ask(url);
    } catch (error) {
      if (!(error instanceof TypeError) || ended()) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function one(url: string, name: string, i: number): Promise<Outcome> {
  try {
    return await ask<Outcome>(`${url}?test=${i}`);
  } catch (error) {
    return { name, error: String(error) };
  }
}

/** Between requests, by name: how long the one that receives waits alone, in milliseconds. */
const ACROSS: [string, number][] = [
  ["a message from a request that ends at once reaches another one", 0],
  ["a request that waits for nothing but another one goes on", 500],
];

async function across(
  url: string,
  [name, pause]: [string, number],
): Promise<Outcome> {
  const begun = performance.now();
  try {
    let ended = false;
    const received = ask<unknown>(`${url}?step=receive`)
      .finally(() => ended = true);
    received.catch(() => {}); // awaited later
    await new Promise((done) => setTimeout(done, pause));
    while (!ended && await ask(`${url}?step=send`) === null);
    const message = await received;
    if (message !== "from another request") throw new Error(`Got ${message}`);
    return { name, ms: Math.round(performance.now() - begun) };
  } catch (error) {
    return { name, error: String(error) };
  }
}

const [name = "workerd", ...args] = Deno.args;
const kind = kinds[name];
if (!kind) throw new Error(`No edge runtime ${name}`);
const [files, filter] = chosen(
  args.length > 0 ? args : ONE_ISOLATE.map((file) => `tests/${file}`),
  testFiles(),
);
const report = new Report();
const cwd = await Deno.makeTempDir();

/** Ends npx and what it has started: one process group. */
function end(child: Deno.ChildProcess): void {
  if (Deno.build.os === "windows") child.kill();
  else Deno.kill(-child.pid, "SIGKILL");
}

/** Runs the tests from this one on, to the first that fails; returns the number of the next, if any. */
async function session(from: number): Promise<number | undefined> {
  const port = freePort();
  const url = `http://127.0.0.1:${port}/`;
  const [command, ...rest] = await kind!(files, port, cwd);
  const child = new Deno.Command(command!, {
    args: rest,
    cwd,
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
    detached: true,
  }).spawn();
  let ended = false;
  child.status.then(() => ended = true);
  const stop = () => {
    end(child);
    Deno.exit(1);
  };
  Deno.addSignalListener("SIGINT", stop);
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", stop);
  try {
    const all = await names(url, () => ended);
    for (let i = from; i < all.length; i++) {
      if (!all[i]!.includes(filter)) continue;
      const outcome = await one(url, all[i]!, i);
      report.add(name, outcome);
      // What a failed test leaves must not make others fail.
      if (outcome.error !== undefined) return i + 1;
    }
    for (const step of ACROSS) {
      if (step[0].includes(filter)) report.add(name, await across(url, step));
    }
  } catch (error) {
    report.add(name, { name: "the tests load", error: String(error) });
  } finally {
    if (!ended) end(child);
    await child.status;
    Deno.removeSignalListener("SIGINT", stop);
    if (Deno.build.os !== "windows") Deno.removeSignalListener("SIGTERM", stop);
  }
  return undefined;
}

for (let from: number | undefined = 0; from !== undefined;) {
  from = await session(from);
}
await Deno.remove(cwd, { recursive: true });
report.end(name);
