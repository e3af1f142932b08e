// Threads that use a queue and write down what happened when: see `linearizability_test.ts`.

import type { Queue } from "../../mod.ts";
import { Empty, Full, ShutDown } from "../../mod.ts";
import { force } from "../../_runtime.ts";
import { Random } from "../_random.ts";

/** A call: between two readings of a counter that all threads share. */
export interface Op {
  kind: "put" | "get" | "full" | "empty" | "aborted" | "size";
  call: "put" | "get" | "size";
  thread: number;
  start: number;
  end: number;
  /** The items that it put or got, in order; of `size` the answer. */
  items: number[];
}

/** What every thread is given. */
export interface Given {
  q: Queue<number>;
  clock: Int32Array;
  thread: number;
  seed: number;
  shared: boolean;
  /** Gets are not given up. */
  patient: boolean;
}

class Recorder {
  readonly ops: Op[] = [];
  readonly random: Random;
  readonly #clock: Int32Array;
  readonly #thread: number;

  constructor({ clock, thread, seed, shared }: Given) {
    this.#thread = thread;
    force.noSharedMemory = !shared;
    this.#clock = clock;
    this.random = new Random(seed);
  }

  #now(): number {
    return Atomics.add(this.#clock, 0, 1);
  }

  /** Notes a call; returns whether it did what it was called for. */
  async note(call: Op["call"], run: () => Promise<number[]>): Promise<boolean> {
    const op: Op = {
      kind: call,
      call,
      thread: this.#thread,
      start: this.#now(),
      end: 0,
      items: [],
    };
    try {
      op.items = await run();
    } catch (error) {
      if (error instanceof Full) op.kind = "full";
      else if (error instanceof Empty) op.kind = "empty";
      else if (error === ABORTED) op.kind = "aborted";
      else throw error;
    }
    op.end = this.#now();
    this.ops.push(op);
    return op.kind === call;
  }

  size(q: Queue<number>): Promise<boolean> {
    return this.note("size", async () => [await q.qsize()]);
  }
}

const ABORTED = new Error("Aborted");

/** A signal that aborts a little later. */
function soon(): AbortSignal {
  const stop = new AbortController();
  setTimeout(() => stop.abort(ABORTED));
  return stop.signal;
}

/** Puts the numbers from `from` to `to`, in every way that there is. */
export async function putAndNote(
  given: Given & { from: number; to: number },
): Promise<Op[]> {
  const { q, from, to } = given;
  const recorder = new Recorder(given);
  const { random } = recorder;
  for (let item = from; item < to;) {
    const one = item;
    const put = (call: () => Promise<void>) =>
      recorder.note("put", () => call().then(() => [one]));
    const dice = random.int(7);
    let done = true;
    if (dice === 0) done = await put(() => q.put_nowait(one));
    else if (dice === 1) done = await put(() => q.put(one, { timeout: 1 }));
    else if (dice === 2) done = await put(() => q.put(one, { signal: soon() }));
    else if (dice === 3) await recorder.size(q);
    if (dice === 3) continue;
    if (dice === 4) {
      const items = [one, one + 1, one + 2].filter((x) => x < to);
      await recorder.note("put", () => q.put_many(items).then(() => items));
      item = one + items.length;
      continue;
    }
    if (dice > 4) await put(() => q.put(one));
    if (done) item++;
  }
  q.close();
  await q.join_thread();
  return recorder.ops;
}

/** Gets until the queue is shut down, in every way that there is. */
export async function getAndNote(given: Given): Promise<Op[]> {
  const { q, patient } = given;
  const recorder = new Recorder(given);
  const { random } = recorder;
  const get = (call: () => Promise<number | number[]>) =>
    recorder.note("get", async () => [await call()].flat());
  try {
    while (true) {
      const dice = random.int(7);
      if (dice === 0) await get(() => q.get_nowait());
      else if (dice === 1) await recorder.size(q);
      else if (dice === 2 && !patient) await get(() => q.get({ timeout: 1 }));
      else if (dice === 3 && !patient) {
        await get(() => q.get({ signal: soon() }));
      } else if (dice === 4) await get(() => q.get_many(3));
      else await get(() => q.get());
    }
  } catch (error) {
    if (!(error instanceof ShutDown)) throw error;
  }
  q.close();
  return recorder.ops;
}

/** Spins a little: what is waited for is often there in a moment. */
function becomes(words: Int32Array, beyond: number): boolean {
  for (let i = 0; i < 5000; i++) {
    if (Atomics.load(words, 0) > beyond) return true;
  }
  return false;
}

/** Gets, without waiting, each item whose put word 0 says has resolved; returns how often it was not there. */
export async function getWhatIsTold(
  { q, count, told }: { q: Queue<number>; count: number; told: Int32Array },
): Promise<number> {
  let missed = 0;
  for (let got = 0; got < count;) {
    if (!becomes(told, got)) {
      await new Promise((done) => setTimeout(done));
      continue;
    }
    try {
      const item = await q.get_nowait();
      if (item !== got) throw new Error(`${item} came instead of ${got}`);
      got++;
    } catch (error) {
      if (!(error instanceof Empty)) throw error;
      missed++;
    }
  }
  q.close();
  return missed;
}

/** Puts numbers, and counts each whose put has resolved in word 0. */
export async function putAndTell(
  { q, count, told }: { q: Queue<number>; count: number; told: Int32Array },
): Promise<void> {
  for (let i = 0; i < count; i++) {
    await q.put(i);
    Atomics.add(told, 0, 1);
  }
  q.close();
}

/** While the owner is busy: a put times out, there is room again, another put does not wait. */
export async function putAfterTimeout(
  { puts, gets, words }: {
    puts: Queue<number>;
    gets: Queue<number>;
    words: Int32Array;
  },
): Promise<string[]> {
  await puts.put(1);
  await puts.put(2);
  const got = [await gets.get()]; // with a copy of what follows
  Atomics.store(words, 1, 1);
  while (Atomics.load(words, 2) === 0);
  await puts.put(3);
  const outcomes: string[] = [];
  const note = (put: Promise<void>) =>
    put.then(() => "put", ({ name }) => name).then((how) => outcomes.push(how));
  await note(puts.put(4, { timeout: 1 }));
  got.push(await gets.get());
  await note(puts.put_nowait(5));
  Atomics.store(words, 0, 1); // the owner goes on
  puts.close();
  gets.close();
  return [...got.map(String), ...outcomes];
}
