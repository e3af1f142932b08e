/// <reference lib="dom" />
// `deno task test:web`: the page of `examples/web/` in a real browser, with shared memory and without.
// Arguments: `--filter text`; `--screenshot` makes docs/web.webp instead.

import { type Browser, chromium, type Page } from "playwright-core";
import { serve } from "../../examples/web/serve.ts";
import { Random, seed } from "../_random.ts";
import { chosen, Report } from "../_report.ts";
import { ROOT } from "../_tools.ts";
import { find, FLAGS } from "./launch.ts";

const DEADLINE = 120_000;
const TILES = 160;

interface Host {
  /** How often each place of the picture was drawn: what the page does, not what it says. */
  draws: Map<string, number>;
  /** Resolves as soon as a change of the page has made this true. */
  when(check: () => boolean): Promise<void>;
}
declare const draws: Host["draws"];
declare const when: Host["when"];

/** Runs in the page before it does. */
function watch(): void {
  const host = globalThis as unknown as Host;
  host.draws = new Map();
  const { prototype } = CanvasRenderingContext2D;
  const { putImageData } = prototype;
  prototype.putImageData = function (image: ImageData, ...place: number[]) {
    const key = place.join();
    host.draws.set(key, (host.draws.get(key) ?? 0) + 1);
    (putImageData as (...args: unknown[]) => void)
      .call(this, image, ...place);
  };
  host.when = (check) =>
    new Promise((resolve) => {
      const look = () => {
        if (!check()) return;
        observer.disconnect();
        resolve();
      };
      const observer = new MutationObserver(look);
      observer.observe(document, {
        subtree: true,
        childList: true,
        characterData: true,
        attributes: true,
      });
      look();
    });
}

function assert(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

function equal(actual: unknown, expected: unknown, what: string): void {
  const [is, should] = [JSON.stringify(actual), JSON.stringify(expected)];
  assert(is === should, `${what}: ${is}, expected ${should}`);
}

const text = (page: Page, id: string) => page.locator(`#${id}`).innerText();
const events = (page: Page) => page.locator("#log li").allInnerTexts();
const drawn = (page: Page) => page.evaluate(() => draws.size);
const add = (page: Page) => page.getByRole("button", { name: "Add" }).click();

/** Resolves when so many tiles are drawn. */
function reach(page: Page, count: number): Promise<void> {
  return page.evaluate((count) => when(() => draws.size >= count), count);
}

/** Kills a worker at a moment at which it has a tile; resolves when the page knows that it is gone. */
async function kill(page: Page, name: number): Promise<void> {
  await page.evaluate(async (label) => {
    const button = document.querySelector<HTMLButtonElement>(
      `[aria-label="${label}"]`,
    )!;
    const card = button.closest("li")!;
    const state = card.querySelector(".state")!;
    let killed = false;
    await when(() => {
      if (!killed && !button.disabled && state.textContent!.includes("tile")) {
        killed = true;
        button.click();
      }
      return killed;
    });
    await when(() => !card.isConnected);
  }, `Kill worker ${name}`);
}

/** SHA-256 of the picture on the page, and of the same drawn by one thread. */
function hashes(page: Page): Promise<[string, string]> {
  return page.evaluate(async () => {
    const path = "/mandelbrot.ts"; // a variable: for the browser, not the type checker
    const { drawRow, placeOf, SIDE, tilesOf } = await import(path);
    const canvas = document.querySelector("canvas")!;
    const { width, height } = canvas;
    const alone = new ImageData(width, height);
    for (const tile of tilesOf(1, 1)) {
      const [left, top] = placeOf(tile.id);
      const pixels = new Uint8ClampedArray(SIDE * SIDE * 4);
      for (let y = 0; y < SIDE; y++) {
        drawRow(tile, y, pixels);
        const row = pixels.subarray(y * SIDE * 4, (y + 1) * SIDE * 4);
        alone.data.set(row, ((top + y) * width + left) * 4);
      }
    }
    const here = canvas.getContext("2d")!.getImageData(0, 0, width, height);
    const hash = async ({ data }: ImageData) => {
      const digest = await crypto.subtle.digest("SHA-256", data);
      return [...new Uint8Array(digest)].join();
    };
    return await Promise.all([hash(here), hash(alone)]);
  }) as Promise<[string, string]>;
}

/** Waits for the whole picture, and looks at it: every tile once, every pixel right, nothing lost. */
async function complete(page: Page): Promise<void> {
  await page.evaluate(() =>
    when(() => !document.querySelector<HTMLButtonElement>("#again")!.disabled)
  );
  await page.evaluate(() =>
    when(() =>
      document.querySelector("#count")!.textContent === "160 of 160" &&
      document.querySelector("#qsize")!.textContent === "0 of 32"
    )
  );
  const times = await page.evaluate(() => [...draws.values()]);
  equal(times, Array.from({ length: TILES }, () => 1), "draws of each tile");
  const [picture, alone] = await hashes(page);
  equal(picture, alone, "the picture");
  equal(await text(page, "lost"), "0", "lost");
  const again = (await events(page)).filter((line) => line.includes("again"));
  equal(await text(page, "redone"), String(again.length), "redone");
}

interface Test {
  name: string;
  query: string;
  run(page: Page): Promise<void>;
  /** Runs in the page, before it does. */
  before?: () => void;
}

const tests: Test[] = [
  {
    name: "two workers draw the picture, each tile once",
    query: "workers=2",
    async run(page) {
      await complete(page);
      equal(await text(page, "redone"), "0", "redone");
      await page.getByRole("button", { name: "Next picture" }).click();
      await page.evaluate(() =>
        when(() => [...draws.values()].every((times) => times === 2))
      );
    },
  },
  {
    name: "a killed worker's tile is noticed, and drawn by another",
    query: "workers=1",
    async run(page) {
      let name = 1;
      // It may just have finished its tile; some time it has not.
      for (; await text(page, "redone") === "0"; name++) {
        assert(name <= 20, "no tile was in the hands of a killed worker");
        await kill(page, name);
        await page.getByText("None: the tiles wait").waitFor();
        const before = await drawn(page);
        assert(before < TILES, "the picture was complete already");
        await page.evaluate(() =>
          when(() =>
            document.querySelector("#qsize")!.textContent === "32 of 32"
          )
        );
        equal(await drawn(page), before, "tiles drawn by nobody");
        await add(page);
        await reach(page, before + 1);
      }
      await add(page);
      await complete(page);
    },
  },
  {
    name: "a stopped worker finishes its tile",
    query: "workers=2",
    async run(page) {
      await reach(page, 10);
      await page.getByRole("button", { name: "Stop worker 1" }).click();
      await page.getByText("Worker 1 is gone, with empty hands").waitFor();
      await complete(page);
      equal(await text(page, "redone"), "0", "redone");
    },
  },
  {
    name: "who stops a worker by the keyboard goes on from there",
    query: "workers=2",
    async run(page) {
      await page.getByRole("button", { name: "Stop worker 1" }).press("Enter");
      const focused = await page.evaluate(() => document.activeElement?.id);
      equal(focused, "add", "focused");
      await page.getByText("Worker 1 is gone").waitFor();
      await complete(page);
    },
  },
  {
    name: "an address that says nothing sensible is passed over",
    query: "workers=many",
    run: complete,
  },
  {
    name: "workers are added, stopped and killed at random",
    query: "workers=2",
    async run(page) {
      const random = new Random(seed());
      for (let count = 5; count < TILES - 20; count += 8) {
        // Somebody has to be there who goes on, also after what comes next.
        const staying = page.locator("#workers li:not(.ending)");
        while (await staying.count() < 2) await add(page);
        await reach(page, count);
        const some = random.int(4);
        await page.evaluate((some) => {
          const what = [".kill", ".kill", ".stop", "#add"][some];
          const buttons = document.querySelectorAll<HTMLButtonElement>(
            `${what}:enabled`,
          );
          buttons[0]?.click();
        }, some);
      }
      await add(page);
      await complete(page);
    },
  },
  {
    name: "a tile that was taken without a word is noticed too",
    query: "workers=1",
    before: () => {
      const Real = Worker;
      let first = true;
      globalThis.Worker = class extends Real {
        constructor(url: string | URL, options?: WorkerOptions) {
          super(first ? "/silent.ts" : url, options);
          first = false;
        }
      };
    },
    async run(page) {
      await page.getByText("Worker 1 is gone, with empty hands").waitFor();
      await add(page);
      await page.evaluate(() =>
        when(() =>
          document.querySelector("#count")!.textContent === "160 of 160"
        )
      );
      equal(await text(page, "redone"), "1", "redone");
      const [picture, alone] = await hashes(page);
      equal(picture, alone, "the picture");
    },
  },
  {
    name: "fits a narrow screen",
    query: "workers=2",
    async run(page) {
      await page.setViewportSize({ width: 320, height: 640 });
      await complete(page);
      const width = await page.evaluate(() =>
        document.documentElement.scrollWidth
      );
      equal(width, 320, "width");
    },
  },
];

/** Opens the page; what goes wrong in it, and requests to elsewhere, are collected. */
async function open(
  browser: Browser,
  origin: string,
  query: string,
  before?: () => void,
): Promise<[page: Page, wrong: string[]]> {
  const wrong: string[] = [];
  const page = await browser.newPage({
    viewport: { width: 1180, height: 900 },
  });
  page.setDefaultTimeout(DEADLINE);
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (m) => m.type() === "error" && wrong.push(m.text()));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !url.startsWith("data:")) wrong.push(url);
  });
  await page.addInitScript(watch);
  if (before) await page.addInitScript(before);
  await page.goto(`${origin}/?${query}`);
  return [page, wrong];
}

/** Runs one test in a page of its own. */
async function run(
  browser: Browser,
  origin: string,
  isolated: boolean,
  { query, before, run }: Test,
): Promise<void> {
  const all = `${query}&view=1&detail=1${isolated ? "" : "&isolated=no"}`;
  const [page, wrong] = await open(browser, origin, all, before);
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`not done within ${DEADLINE} ms`)),
    DEADLINE,
  );
  try {
    equal(
      await page.evaluate(() => crossOriginIsolated),
      isolated,
      "crossOriginIsolated",
    );
    await Promise.race([run(page), late.promise]);
    equal(wrong, [], "errors");
  } catch (error) {
    const seen = await page.locator("dl, #workers li, #log li").allInnerTexts()
      .catch(() => []);
    throw new Error(`${(error as Error).stack}\n${seen.join("\n")}`);
  } finally {
    clearTimeout(timer);
    await page.close();
  }
}

/** The picture for the README: half done, a worker killed, its tile not yet done again. */
async function screenshot(browser: Browser, origin: string): Promise<void> {
  const [page] = await open(browser, origin, "workers=3");
  await reach(page, 70);
  let name = 2;
  while (await page.locator("#grid .again").count() === 0) {
    await kill(page, name);
    await add(page);
    name = name === 2 ? 4 : name + 1;
  }
  await page.evaluate(() =>
    when(() => document.querySelectorAll("#grid .taken").length === 3)
  );
  const png = await page.screenshot();
  // As WebP it is a quarter of the size.
  const url = await page.evaluate(async (bytes) => {
    const image = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d")!.drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", 0.85);
  }, [...png]);
  const webp = Uint8Array.fromBase64(url.split(",")[1]!);
  await Deno.writeFile(`${ROOT}/docs/web.webp`, webp);
  console.log(`docs/web.webp: ${Math.round(webp.length / 1024)} KiB`);
}

const executablePath = find("chromium");
const browser = await chromium.launch({ executablePath, args: FLAGS });
console.log(`${executablePath} ${browser.version()}`);
const server = await serve({
  port: 0,
  isolation: true,
  more: [`${ROOT}/tests/browser/silent.ts`],
});
const origin = `http://localhost:${server.addr.port}`;
const report = new Report();
if (Deno.args.includes("--screenshot")) await screenshot(browser, origin);
else {
  const [, filter] = chosen(Deno.args, []);
  for (const isolated of [true, false]) {
    const mode = isolated ? "isolated" : "not isolated";
    console.log(`\n${mode}`);
    for (const test of tests) {
      if (!test.name.includes(filter)) continue;
      const started = performance.now();
      const error = await run(browser, origin, isolated, test)
        .then(() => undefined, (error) => String(error.message));
      const ms = performance.now() - started;
      report.add(mode, { name: test.name, ms, ...(error && { error }) });
    }
  }
}
await browser.close();
await server.shutdown();
if (!Deno.args.includes("--screenshot")) report.end("web");
