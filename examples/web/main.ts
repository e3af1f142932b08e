/// <reference lib="dom" />
// The page: puts the tiles into a queue, draws what comes back through another, and keeps the books.
//
// A tile is done when its result is here. Nothing else counts, so nothing can be lost:
// - What no worker has taken is still in the queue, whoever dies.
// - What a worker has taken, it says on its pipe. When that pipe ends before the result has come, the
//   tile is put again.
// - A worker may be killed between taking and saying. So when the queue is empty and every worker idle,
//   what has no result is put again too.

import { type Connection, pack, Pipe, Queue } from "../../mod.ts";
import {
  COLUMNS,
  placeOf,
  ROWS,
  SIDE,
  type Tile,
  tilesOf,
} from "./mandelbrot.ts";
import type { Args, Result, Word } from "./worker.ts";

const BOUND = 32;
/** As often the counters are brought up to date. */
const TICK_MS = 200;
/** The rate is that of so many milliseconds. */
const WINDOW_MS = 2000;
const MOST_EVENTS = 100;

interface Staff {
  name: number;
  thread: Worker;
  pipe: Connection<Word, "stop">;
  /** The tile that it has taken, and not yet answered. */
  holds: Tile | undefined;
  /** How often it has said that it found nothing, since it took a tile or one was put. */
  idle: number;
  done: number;
  ending: "" | "stopping" | "killed";
  card: HTMLElement;
}

/** Where a tile is, as far as the page has heard. */
type Place = "to put" | "queued" | "taken" | "done";

const tiles = new Queue<Tile>(BOUND);
const results = new Queue<Result>();
const staff = new Map<number, Staff>();
const detail = asked("detail", 3);

let view = asked("view", 0);
let pending: Tile[] = [];
let places: Place[] = [];
let putting = false;
let hired = 0;
let redone = 0;
let finished: number[] = [];

const at = <T extends HTMLElement>(id: string) =>
  document.getElementById(id) as T;
const canvas = at<HTMLCanvasElement>("canvas");
canvas.width = COLUMNS * SIDE;
canvas.height = ROWS * SIDE;
const context = canvas.getContext("2d")!;
const cells = Array.from({ length: COLUMNS * ROWS }, () => {
  return at("grid").appendChild(document.createElement("i"));
});

/** A number in the page's address, if there is one that can be counted with. */
function asked(name: string, otherwise: number): number {
  const text = new URL(location.href).searchParams.get(name) ?? "";
  return /^\d{1,6}$/.test(text) ? Number(text) : otherwise;
}

// --- The work ------------------------------------------------------------------

/** Begins a picture. */
function begin(): void {
  pending = tilesOf(view, detail);
  places = pending.map(() => "to put");
  finished = [];
  redone = 0;
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const { id } of pending) mark(id, "to put");
  at<HTMLButtonElement>("again").disabled = true;
  put();
}

/** Puts what is pending, as there is room, also what is added meanwhile. */
async function put(): Promise<void> {
  if (putting) return;
  putting = true;
  for (let tile; (tile = pending.shift());) {
    if (!isMissing(tile)) continue; // its result has come after all
    await tiles.put(tile);
    if (places[tile.id] === "to put") {
      const again = cells[tile.id]!.classList.contains("again");
      mark(tile.id, "queued", again ? "again" : "");
    }
    for (const worker of staff.values()) worker.idle = 0;
  }
  putting = false;
}

function isMissing({ id, view: of }: Tile): boolean {
  return of === view && places[id] !== "done";
}

/** Puts a tile again. */
function redo(tile: Tile): void {
  redone++;
  mark(tile.id, "to put", "again");
  pending.unshift(tile);
  put();
}

/** Draws results, each tile once. */
async function collect(): Promise<void> {
  for await (const { by, tile, pixels } of results) {
    const worker = staff.get(by);
    if (worker?.holds?.id === tile.id) worker.holds = undefined;
    if (!isMissing(tile)) continue;
    context.putImageData(
      new ImageData(pixels, SIDE, SIDE),
      ...placeOf(tile.id),
    );
    mark(tile.id, "done");
    finished.push(performance.now());
    if (worker) worker.done++;
    if (finished.length === places.length) complete();
  }
}

function complete(): void {
  say(`The picture is complete: ${places.length} tiles, each drawn once`);
  at<HTMLButtonElement>("again").disabled = false;
  show();
}

// --- The workers -----------------------------------------------------------------

/** Starts a worker. */
function hire(): void {
  const name = ++hired;
  const [pipe, page] = Pipe<Word, "stop">();
  const thread = new Worker(new URL("./worker.ts", import.meta.url), {
    type: "module",
  });
  const args: Args = { name, tiles, results, page };
  thread.postMessage(...pack(args));
  const worker: Staff = {
    name,
    thread,
    pipe,
    holds: undefined,
    idle: 0,
    done: 0,
    ending: "",
    card: makeCard(name),
  };
  thread.onerror = ({ message }) => {
    say(`Worker ${name} failed: ${message}`);
    thread.terminate();
    pipe.close(); // perhaps it has never had the other end
  };
  staff.set(name, worker);
  say(`Worker ${name} started`);
  show();
  attend(worker);
}

/** Listens to a worker until its end. */
async function attend(worker: Staff): Promise<void> {
  try {
    for await (const word of worker.pipe) hear(worker, word);
  } catch {
    // Closed here, because it failed.
  }
  // End of file: it has stopped, or was killed. All that it has said was heard.
  const { name, holds, pipe, thread, card } = worker;
  pipe.close();
  thread.terminate();
  staff.delete(name);
  keepFocus(card);
  card.remove();
  if (holds && isMissing(holds)) {
    say(`Worker ${name} is gone: its tile ${holds.id} is put again`);
    redo(holds);
  } else say(`Worker ${name} is gone, with empty hands`);
  show();
}

function hear(worker: Staff, word: Word): void {
  if (word === "idle") worker.idle++;
  else {
    worker.idle = 0;
    worker.holds = word.took;
    if (isMissing(word.took)) mark(word.took.id, "taken", worker.name);
  }
  showCard(worker);
}

/** Orderly: it finishes its tile. */
function stop(worker: Staff): void {
  worker.ending = "stopping";
  worker.pipe.send("stop").catch(() => {}); // it was gone already
  showCard(worker);
}

function kill(worker: Staff): void {
  worker.ending = "killed";
  worker.thread.terminate();
  if (worker.holds && isMissing(worker.holds)) {
    mark(worker.holds.id, "taken", "dead");
  }
  showCard(worker);
}

// --- What one sees ---------------------------------------------------------------

function mark(id: number, place: Place, how: number | string = ""): void {
  places[id] = place;
  const cell = cells[id]!;
  cell.className = [place.replace(" ", "-"), typeof how === "string" ? how : ""]
    .join(" ").trim();
  cell.style.setProperty("--hue", hue(Number(how) || 0));
}

function hue(name: number): string {
  return String(name * 137 % 360);
}

function makeCard(name: number): HTMLElement {
  const template = at<HTMLTemplateElement>("card").content.firstElementChild!;
  const card = template.cloneNode(true) as HTMLElement;
  card.style.setProperty("--hue", hue(name));
  card.querySelector(".name")!.textContent = `Worker ${name}`;
  for (const [what, act] of Object.entries({ stop, kill })) {
    const button = card.querySelector<HTMLButtonElement>(`.${what}`)!;
    button.setAttribute("aria-label", `${button.textContent} worker ${name}`);
    button.disabled = true; // until its first word: its end would not be noticed
    button.onclick = () => act(staff.get(name)!);
  }
  return at("workers").appendChild(card);
}

function showCard({ card, ending, holds, done }: Staff): void {
  const work = holds ? `tile ${holds.id}` : "idle";
  card.querySelector(".state")!.textContent = `${
    ending || work
  } · ${done} done`;
  card.classList.toggle("ending", ending !== "");
  disable(card.querySelector(".stop")!, ending !== "");
  disable(card.querySelector(".kill")!, ending === "killed");
}

function disable(button: HTMLButtonElement, disabled: boolean): void {
  if (disabled) keepFocus(button);
  button.disabled = disabled;
}

/** Something can be focused no more: who uses the keyboard goes on from here. */
function keepFocus(gone: HTMLElement): void {
  if (gone.contains(document.activeElement)) at("add").focus();
}

/** Brings the counters up to date. */
async function show(): Promise<void> {
  const size = await tiles.qsize();
  const now = performance.now();
  const recent = finished.filter((time) => now - time < WINDOW_MS).length;
  const progress = at<HTMLProgressElement>("progress");
  progress.max = places.length;
  progress.value = finished.length;
  at("count").textContent = `${finished.length} of ${places.length}`;
  at("qsize").textContent = `${size} of ${BOUND}`;
  at("rate").textContent = (recent / WINDOW_MS * 1000).toFixed(1);
  at("lost").textContent = String(reckon(size));
  at("redone").textContent = String(redone);
  at("none").hidden = staff.size > 0;
  for (const worker of staff.values()) {
    if (worker.holds || worker.idle > 0) showCard(worker);
  }
}

/** How many tiles are neither done, nor waiting, nor in a worker's hands. They are put again. */
function reckon(size: number): number {
  const queued = [...places.keys()].filter((id) => places[id] === "queued");
  // Who has said twice that there is nothing, has not just taken something.
  const busy = [...staff.values()].filter(({ idle }) => idle < 2).length;
  if (size > 0 || busy > 0) return 0;
  for (const id of queued) {
    say(`Tile ${id} is in nobody's hands, and is put again`);
    redo({ id, view, detail });
  }
  return queued.length;
}

function say(line: string): void {
  const log = at("log");
  log.prepend(
    Object.assign(document.createElement("li"), { textContent: line }),
  );
  while (log.children.length > MOST_EVENTS) log.lastChild!.remove();
}

at("add").onclick = hire;
at("again").onclick = () => {
  view++;
  begin();
};
at("mode").textContent = crossOriginIsolated
  ? "With shared memory. Try it without"
  : "Without shared memory. Try it with";
at<HTMLAnchorElement>("mode").href = crossOriginIsolated ? "?isolated=no" : "?";

begin();
collect();
const crew = asked("workers", Math.min(navigator.hardwareConcurrency, 4));
for (let i = 0; i < crew; i++) hire();
setInterval(show, TICK_MS);
