// Starts a browser that is installed; none is ever downloaded.

import { chromium, type Page } from "playwright-core";
import { launch as puppeteer } from "puppeteer-core";

const PLACES: Record<string, string[]> = {
  chromium: [
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
  ],
  firefox: [
    "/usr/bin/firefox-esr",
    "/usr/bin/firefox",
    "/Applications/Firefox.app/Contents/MacOS/firefox",
    "C:\\Program Files\\Mozilla Firefox\\firefox.exe",
  ],
};

/** Without these a headless Chromium in a container does not start, or calls home. */
export const FLAGS: string[] = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A page that shares nothing with others. */
export interface Tab {
  /** Opens a page, which tells by `told()`; `crashed` is called when it cannot any more. */
  open(
    url: string,
    told: (event: Record<string, unknown>) => void,
    crashed: (why: string) => void,
  ): Promise<void>;
  close(): Promise<void>;
}

/** A running browser. */
export interface Browser {
  title: string;
  tab(): Promise<Tab>;
  close(): Promise<void>;
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** The path of the browser, if it is there: from BROWSER, or where systems have it. */
export function installed(name: string): string | undefined {
  const named = Deno.env.get("BROWSER");
  return (named ? [named] : PLACES[name] ?? []).find(exists);
}

/** The path of the browser; else says what to do. */
export function find(name: string): string {
  const found = installed(name);
  if (found) return found;
  const debian = name === "firefox" ? "firefox-esr" : name;
  console.error(
    `No ${name} found. Install it (Debian: apt-get install ${debian}), or name one: BROWSER=/path/to/${name}`,
  );
  Deno.exit(1);
}

const log = Deno.env.get("DEBUG")
  ? (message: { text(): string }) => console.log("  |", message.text())
  : () => {};

/** What V8 counts. */
interface Coverage {
  result: unknown[];
}

/** Where to write what of the published files Chromium has run. */
const COVERAGE = Deno.env.get("COVERAGE");

/** Counts what a page runs, and a worker that runs tests; returns what writes that down. */
async function measure(page: Page): Promise<() => Promise<void>> {
  const session = await page.context().newCDPSession(page);
  const answers = new Map<number, (result: Coverage) => void>();
  let worker: string | undefined;
  let last = 0;
  const ask = (sessionId: string, method: string, params = {}) => {
    const { promise, resolve } = Promise.withResolvers<Coverage>();
    const message = JSON.stringify({ id: ++last, method, params });
    answers.set(last, resolve);
    session.send("Target.sendMessageToTarget", { sessionId, message })
      .catch(() => resolve({ result: [] })); // it has ended
    return promise;
  };
  session.on("Target.receivedMessageFromTarget", ({ message }) => {
    const { id, result } = JSON.parse(message);
    answers.get(id)?.(result);
  });
  const start = "Profiler.startPreciseCoverage";
  const detailed = { callCount: false, detailed: true };
  session.on("Target.attachedToTarget", ({ sessionId, targetInfo }) => {
    if (targetInfo.url.includes("/browser/page.ts")) {
      worker = sessionId;
      ask(worker, "Profiler.enable");
      ask(worker, start, detailed);
    }
    ask(sessionId, "Runtime.runIfWaitingForDebugger");
  });
  await session.send("Profiler.enable");
  await session.send(start, detailed);
  await session.send("Target.setAutoAttach", {
    autoAttach: true,
    waitForDebuggerOnStart: true,
    flatten: false,
  });
  return async () => {
    const take = "Profiler.takePreciseCoverage";
    const { result } = worker
      ? await ask(worker, take)
      : await session.send(take);
    const path = `${COVERAGE}/${crypto.randomUUID()}.json`;
    await Deno.writeTextFile(path, JSON.stringify({ result }));
  };
}

async function launchChromium(executablePath: string): Promise<Browser> {
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  const tab = async (): Promise<Tab> => {
    const context = await browser.newContext();
    const page = await context.newPage();
    let ended = () => {};
    let write: (() => Promise<void>) | undefined;
    return {
      async open(url, told, crashed) {
        page.on("console", log);
        page.on("crash", () => crashed("The page crashed"));
        ended = () => crashed("The browser ended");
        browser.on("disconnected", ended);
        await page.exposeFunction("told", told);
        if (COVERAGE) write = await measure(page);
        await page.goto(url);
      },
      async close() {
        await write?.();
        browser.off("disconnected", ended);
        await context.close();
      },
    };
  };
  const title = `${executablePath} ${browser.version()}`;
  return { title, tab, close: () => browser.close() };
}

/** Of the pages that run at a time Firefox hides all but one, whose timers would come every second only, or later. */
const UNTHROTTLED = {
  "dom.min_background_timeout_value_without_budget_throttling": 0,
  "dom.timeout.enable_budget_timer_throttling": false,
};

async function launchFirefox(executablePath: string): Promise<Browser> {
  const browser = await puppeteer({
    browser: "firefox",
    executablePath,
    extraPrefsFirefox: UNTHROTTLED,
  });
  const tab = async (): Promise<Tab> => {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    let ended = () => {};
    return {
      async open(url, told, crashed) {
        page.on("console", log);
        page.on("error", () => crashed("The page crashed"));
        ended = () => crashed("The browser ended");
        browser.on("disconnected", ended);
        await page.exposeFunction("told", told);
        await page.goto(url);
      },
      close() {
        browser.off("disconnected", ended);
        return context.close();
      },
    };
  };
  const title = `${executablePath} ${await browser.version()}`;
  return { title, tab, close: () => browser.close() };
}

/** Starts `chromium` or `firefox`. */
export function launch(name: string): Promise<Browser> {
  const path = find(name);
  return name === "firefox" ? launchFirefox(path) : launchChromium(path);
}
