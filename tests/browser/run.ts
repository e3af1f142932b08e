// `deno task test:browser`, `deno task test:firefox`: the suite in a real browser, headless: Chromium through
// playwright-core, Firefox through puppeteer-core. With shared memory (a page that is cross-origin isolated)
// and without; in a window, and in a Web Worker. Arguments: the browser, test files, `--filter text`;
// BROWSER=path chooses the program, MODE="window, isolated" one of the modes. COVERAGE=folder, for Chromium:
// writes there what of the published files has been run, in modes of its own.

import { stripTypeScriptTypes } from "node:module";
import { bundleApart, PURE } from "../_bundle.ts";
import { chosen, type Outcome, Report } from "../_report.ts";
import { published, ROOT, testFiles, testPaths } from "../_tools.ts";
import { launch, type Tab } from "./launch.ts";
import { serve } from "./serve.ts";

/** No test may keep the thread busy for longer. */
const SILENCE = 90_000;

/** Pages at a time: where threads wait for each other, they leave cores idle. */
const PAGES = Math.min(2, navigator.hardwareConcurrency);

interface Mode {
  title: string;
  isolated: boolean;
  in: "window" | "worker";
  /** What the window is made to do first. */
  as?: keyof typeof PRETENCES;
  /** The only test files. */
  only?: string[];
}

/** What makes a window look like another one, for coverage. */
const PRETENCES = {
  /** As Firefox, of whose own run nothing is known: a port that was transferred still dispatches a message. */
  lossy: `const { structuredClone: clone } = globalThis;
    globalThis.structuredClone = (value, options) => {
      const copy = clone(value, options);
      if (value instanceof MessagePort) {
        value.dispatchEvent(new MessageEvent("message"));
      }
      return copy;
    };`,
  /** As a page of an opaque origin, which brings a `process` that can do little, and clones no ports. */
  refusing: `navigator.locks.request = () =>
      Promise.reject(new DOMException("Refused", "SecurityError"));
    const refuse = () => {
      throw new DOMException("Refused", "NotSupportedError");
    };
    globalThis.process = { getBuiltinModule: refuse };
    const { structuredClone: clone } = globalThis;
    globalThis.structuredClone = (value, options) =>
      value instanceof MessagePort ? refuse() : clone(value, options);`,
};

const MODES: Mode[] = [
  { title: "window, isolated", isolated: true, in: "window" },
  { title: "window, not isolated", isolated: false, in: "window" },
  { title: "worker, isolated", isolated: true, in: "worker" },
  { title: "worker, not isolated", isolated: false, in: "worker" },
];

/** Once each what tells windows and workers apart. */
const MEASURED: Mode[] = [
  { title: "window", isolated: true, in: "window" },
  {
    title: "worker",
    isolated: true,
    in: "worker",
    only: ["poll_wait_test.ts"],
  },
  {
    title: "window as in Firefox",
    isolated: true,
    in: "window",
    as: "lossy",
    only: ["moving_test.ts"],
  },
  {
    title: "window that refuses much",
    isolated: true,
    in: "window",
    as: "refusing",
    only: ["wire_test.ts"],
  },
];

interface Event {
  /** The number of a test, and its name. */
  begun?: [number, string];
  outcome?: Outcome;
  /** In a fresh page the tests from this one on. */
  next?: number;
  end?: boolean;
  crash?: string;
}

/** Runs tests in a page; resolves to the number of the test to go on with, if any. */
async function runPage(
  tab: Tab,
  url: URL,
  hear: (outcome: Outcome) => void,
): Promise<number | undefined> {
  const done = Promise.withResolvers<number | undefined>();
  let current: [number, string] | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;
  const stop = (error: string) => {
    if (stopped) return;
    stopped = true;
    hear({ name: current?.[1] ?? "the tests load", error });
    done.resolve(current && current[0] + 1);
  };
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(
      () => stop(`Nothing was heard for ${SILENCE} ms`),
      SILENCE,
    );
  };
  await tab.open(url.href, (event: Event) => {
    listen();
    if (event.begun) current = event.begun;
    if (event.outcome) hear(event.outcome);
    if (event.crash !== undefined) stop(event.crash);
    if (event.next !== undefined || event.end) done.resolve(event.next);
  }, stop);
  listen();
  const next = await done.promise;
  stopped = true;
  clearTimeout(timer);
  return next;
}

/** A test file in one of the modes. */
interface Job {
  mode: Mode;
  file: string;
  origin: string;
}

const env: Record<string, string> = {};
for (const name of ["SEED", "SCALE"]) {
  const value = Deno.env.get(name);
  if (value) env[name] = value;
}

/** Runs one test file, and prints what became of it. */
async function runJob({ mode, file, origin }: Job): Promise<void> {
  const outcomes: Outcome[] = [];
  const url = new URL(origin);
  const query = {
    file,
    filter,
    in: mode.in,
    as: mode.as ?? "",
    env: JSON.stringify(env),
  };
  url.search = new URLSearchParams(query).toString();
  try {
    for (let from: number | undefined = 0; from !== undefined;) {
      url.searchParams.set("from", String(from));
      const tab = await browser.tab();
      from = await runPage(tab, url, (outcome) => outcomes.push(outcome));
      await tab.close();
    }
  } catch (error) {
    outcomes.push({ name: "the browser", error: String(error) });
  }
  console.log(`\n${mode.title}: ${file}`);
  for (const outcome of outcomes) report.add(mode.title, outcome);
}

/** Bundles the tests, the workers and the page; where it is measured, the published files are served as they are. */
async function bundle(): Promise<Map<string, string>> {
  const workers = [...Deno.readDirSync(new URL("../workers", import.meta.url))]
    .map(({ name }) => `tests/workers/${name}`)
    .filter((path) => path.endsWith(".ts"));
  const tests = testPaths();
  const entries = ["tests/browser/page.ts", ...tests, ...workers];
  const apart = measured ? published() : [];
  const outputs = await bundleApart(entries, "tests", apart);
  for (const name of apart) {
    const text = await Deno.readTextFile(ROOT + name);
    outputs.set(`/published/${name}`, stripTypeScriptTypes(text));
  }
  return outputs;
}

const [name = "chromium", ...args] = Deno.args;
const [files, filter] = chosen(args, testFiles());
const measured = Deno.env.has("COVERAGE");
const outputs = await bundle();
const browser = await launch(name);
console.log(browser.title);
const report = new Report();
const only = Deno.env.get("MODE");
const pretend = `const pretend = ${JSON.stringify(PRETENCES)};
  eval(pretend[new URLSearchParams(location.search).get("as")]);`;
const servers = [true, false].map((isolated) => ({
  isolated,
  server: serve(outputs, isolated, "/browser/page.ts", pretend),
}));
const jobs: Job[] = (measured ? MEASURED : MODES)
  .filter(({ title }) => !only || title === only)
  .flatMap((mode, i) => {
    const { server } = servers.find((s) => s.isolated === mode.isolated)!;
    const origin = `http://localhost:${server.addr.port}/`;
    return files
      .filter((file) => i === 0 || !PURE.includes(file))
      .filter((file) => !mode.only || mode.only.includes(file))
      .map((file) => ({ mode, file, origin }));
  });
await Promise.all(Array.from({ length: PAGES }, async () => {
  for (let job; (job = jobs.shift());) await runJob(job);
}));
await browser.close();
for (const { server } of servers) await server.shutdown();
report.end(name);
