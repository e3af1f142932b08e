// `deno task test:browser`: the suite in a real browser, headless, through playwright-core. With shared
// memory (a page that is cross-origin isolated) and without; in a window, and in a Web Worker.
// Arguments: test files, `--filter text`; BROWSER=path chooses the browser.

import { type Browser, chromium, type Page } from "playwright-core";
import { bundleApart, testFiles } from "../_bundle.ts";
import { chosen, type Outcome, Report } from "../_report.ts";
import { findBrowser, FLAGS } from "./find.ts";

/** No test may keep the thread busy for longer. */
const SILENCE = 90_000;

interface Mode {
  title: string;
  isolated: boolean;
  in: "window" | "worker";
}

const MODES: Mode[] = [
  { title: "window, isolated", isolated: true, in: "window" },
  { title: "window, not isolated", isolated: false, in: "window" },
  { title: "worker, isolated", isolated: true, in: "worker" },
  { title: "worker, not isolated", isolated: false, in: "worker" },
];

const ISOLATION = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};

const HTML = `<!doctype html><title>tests</title>
<script type="module" src="/browser/page.ts"></script>`;

/** Serves the bundle; resolves to the origin of the server. */
function serve(outputs: Map<string, string>, isolated: boolean) {
  const headers = isolated ? ISOLATION : {};
  return Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    ({ url }) => {
      const { pathname } = new URL(url);
      if (pathname === "/") {
        const type = { "content-type": "text/html;charset=utf-8" };
        return new Response(HTML, { headers: { ...headers, ...type } });
      }
      const text = outputs.get(pathname);
      const type = { "content-type": "text/javascript;charset=utf-8" };
      return new Response(text ?? "", {
        status: text === undefined ? 404 : 200,
        headers: { ...headers, ...type },
      });
    },
  );
}

interface Event {
  begun?: string;
  outcome?: Outcome;
  /** In a fresh page the tests from this one on. */
  next?: number;
  end?: boolean;
  crash?: string;
}

/** Runs tests in a page; resolves to the number of the test to go on with, if any. */
async function runPage(
  page: Page,
  url: URL,
  hear: (outcome: Outcome) => void,
): Promise<number | undefined> {
  const done = Promise.withResolvers<number | undefined>();
  let current = "the module itself";
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stop = (error: string) => {
    hear({ name: current, error });
    done.resolve(undefined);
  };
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(
      () => stop(`Nothing was heard for ${SILENCE} ms`),
      SILENCE,
    );
  };
  if (Deno.env.get("DEBUG")) {
    page.on("console", (m) => console.log("  |", m.text()));
  }
  page.on("crash", () => stop("The page crashed"));
  await page.exposeFunction("told", (event: Event) => {
    listen();
    if (event.begun !== undefined) current = event.begun;
    if (event.outcome) hear(event.outcome);
    if (event.crash !== undefined) stop(event.crash);
    if (event.next !== undefined || event.end) done.resolve(event.next);
  });
  listen();
  await page.goto(url.href);
  const next = await done.promise;
  clearTimeout(timer);
  return next;
}

/** Runs one test file. */
async function runFile(
  browser: Browser,
  url: URL,
  hear: (outcome: Outcome) => void,
): Promise<void> {
  for (let from: number | undefined = 0; from !== undefined;) {
    url.searchParams.set("from", String(from));
    const context = await browser.newContext();
    from = await runPage(await context.newPage(), url, hear);
    await context.close();
  }
}

async function runMode(
  browser: Browser,
  mode: Mode,
  outputs: Map<string, string>,
  report: Report,
): Promise<void> {
  const [files, filter] = chosen(Deno.args, testFiles());
  const server = serve(outputs, mode.isolated);
  const env: Record<string, string> = {};
  for (const name of ["SEED", "SCALE"]) {
    const value = Deno.env.get(name);
    if (value) env[name] = value;
  }
  for (const file of files) {
    console.log(`\n${mode.title}: ${file}`);
    const url = new URL(`http://localhost:${server.addr.port}/`);
    const query = { file, filter, in: mode.in, env: JSON.stringify(env) };
    url.search = new URLSearchParams(query).toString();
    await runFile(
      browser,
      url,
      (outcome) => report.add(mode.title, outcome),
    );
  }
  await server.shutdown();
}

const workers = [...Deno.readDirSync(new URL("../workers", import.meta.url))]
  .map(({ name }) => `tests/workers/${name}`)
  .filter((path) => path.endsWith(".ts"));
const outputs = await bundleApart([
  "tests/browser/page.ts",
  ...testFiles().map((name) => `tests/${name}`),
  ...workers,
], "tests");

const executablePath = findBrowser();
const browser = await chromium.launch({ executablePath, args: FLAGS });
console.log(`${executablePath} ${browser.version()}`);
const report = new Report();
const only = Deno.env.get("MODE");
for (const mode of MODES) {
  if (only && mode.title !== only) continue;
  await runMode(browser, mode, outputs, report);
}
await browser.close();
report.end("chromium");
