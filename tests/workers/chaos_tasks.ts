// Threads that work until something ends them: see `_chaos.ts`.

import type { Connection, Queue } from "../../mod.ts";
import { Empty, Full, OSError, ShutDown } from "../../mod.ts";
import { force } from "../../_runtime.ts";
import { Random } from "../_random.ts";
import { exit } from "../_worker.ts";

/** How a worker ends by itself, after so many steps. */
export interface Fate {
  how: "lives" | "throw" | "exit" | "loop" | "close";
  after: number;
  seed: number;
}

/** Memory that outlives a worker. */
export interface Marks {
  /** How often each item was received. */
  got: Int32Array;
  /** Whether the call that sent each item has resolved. */
  put: Int32Array;
  /** For each worker, how many items the calls under way may still return to it. */
  open: Int32Array;
  /** Whether each worker has what it was given. */
  began: Int32Array;
  /** Lets workers go that are in a loop. */
  loose: Int32Array;
}

/** What every worker is given. */
interface Given {
  marks: Marks;
  fate: Fate;
  shared: boolean;
  slot: number;
}

const never = new Promise<never>(() => {});

function begin({ marks, fate, shared, slot }: Given): Random {
  force.noSharedMemory = !shared;
  Atomics.store(marks.began, slot, 1);
  return new Random(fate.seed);
}

/** Ends this worker as it was told to. */
async function end(how: Fate["how"], { loose }: Marks): Promise<void> {
  if (how === "exit") exit();
  else if (how === "throw") {
    setTimeout(() => {
      throw new Error("Thrown on purpose");
    });
  } else {
    // Terminated in here, or, where that cannot be, soon after.
    while (Atomics.load(loose, 0) === 0);
  }
  await never;
}

/** Gets items, in every way that there is, and marks them. */
export async function consume(
  { q, ...given }: Given & { q: Queue<number> },
): Promise<void> {
  const random = begin(given);
  const { marks, fate, slot } = given;
  const get = async (most: number, call: () => Promise<number | number[]>) => {
    Atomics.add(marks.open, slot, most);
    try {
      for (const item of [await call()].flat()) Atomics.add(marks.got, item, 1);
    } finally {
      Atomics.sub(marks.open, slot, most);
    }
  };
  for (let step = 0;; step++) {
    if (step === fate.after) {
      // Some calls are under way when the end comes.
      if (random.chance()) get(1, () => q.get()).catch(() => {});
      if (fate.how === "close") return q.close();
      await end(fate.how, marks);
    }
    const dice = random.next();
    try {
      if (dice < 0.5) await get(1, () => q.get());
      else if (dice < 0.65) await get(1, () => q.get({ timeout: dice * 4 }));
      else if (dice < 0.75) await get(1, () => q.get_nowait());
      else if (dice < 0.85) await get(4, () => q.get_many(4));
      else {
        await Promise.all([get(1, () => q.get()), get(1, () => q.get())]);
      }
    } catch (error) {
      if (error instanceof ShutDown) return q.close();
      if (!(error instanceof Empty)) throw error;
    }
  }
}

/** Puts the numbers from `from` to `to`, in every way that there is. */
export async function produce(
  { q, from, to, ...given }: Given & {
    q: Queue<number>;
    from: number;
    to: number;
  },
): Promise<void> {
  const random = begin(given);
  const { marks, fate } = given;
  const stored = (item: number) => Atomics.store(marks.put, item, 1);
  for (let item = from, step = 0; item < to; step++) {
    if (step === fate.after) {
      if (random.chance()) q.put(item).then(() => stored(item), () => {});
      if (fate.how === "close") return q.close();
      await end(fate.how, marks);
    }
    const dice = random.next();
    if (dice < 0.6) {
      await q.put(item);
      stored(item++);
    } else if (dice < 0.8) {
      const items = [item, item + 1, item + 2].filter((x) => x < to);
      await q.put_many(items);
      items.forEach(stored);
      item += items.length;
    } else {
      try {
        await q.put(item, { timeout: 1 });
        stored(item);
      } catch (error) {
        if (!(error instanceof Full)) throw error;
      }
      item++;
    }
  }
  q.close();
  await q.join_thread();
}

/** Sends the numbers up to `count`, as objects and as bytes, alone and in bursts. */
export async function sendAll(
  { conn, count, ...given }: Given & {
    conn: Connection<unknown>;
    count: number;
  },
): Promise<void> {
  const random = begin(given);
  const { marks, fate } = given;
  const send = async (item: number) => {
    await (random.chance(0.3)
      ? conn.send_bytes(Int32Array.of(item))
      : conn.send(item));
    Atomics.store(marks.put, item, 1);
  };
  for (let item = 0, step = 0; item < count; step++) {
    const burst: Promise<void>[] = [];
    const last = Math.min(count, item + 1 + random.int(8));
    while (item < last) burst.push(send(item++));
    if (step === fate.after) {
      if (fate.how === "close") return conn.close();
      await end(fate.how, marks);
    }
    if (random.chance(0.7)) await Promise.all(burst);
  }
}

/** Receives numbers, marks them, answers each, and passes the connection on. */
export async function carry(
  { conn, back, most, ...given }: Given & {
    conn: Connection<number>;
    back: Connection<unknown>;
    most: number;
  },
): Promise<void> {
  const random = begin(given);
  const { marks, fate } = given;
  for (let step = 0; step < most; step++) {
    if (step === fate.after) await end(fate.how, marks);
    const item = await conn.recv();
    Atomics.add(marks.got, item, 1);
    const sent = conn.send(item).then(() => {
      Atomics.store(marks.put, item, 1);
    }, (error) => {
      if (!(error instanceof OSError)) throw error;
    });
    if (random.chance()) await sent;
  }
  const moved = back.send({ conn });
  if (fate.after >= most && fate.how !== "lives") await end(fate.how, marks);
  await moved;
  back.close();
}
