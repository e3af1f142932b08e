// Functions for `spawnTask` that use queues.

import {
  type Connection,
  JoinableQueue,
  Pipe,
  Queue,
  ShutDown,
} from "../../mod.ts";
import { force } from "../../_runtime.ts";
import type { Order } from "../_holder.ts";
import { exit } from "../_worker.ts";

/** Gets until the queue is shut down; returns what it got. */
export async function drain(
  { q }: { q: Queue<unknown> },
): Promise<unknown[]> {
  const got: unknown[] = [];
  for await (const item of q) got.push(item);
  q.close();
  return got;
}

/** Counts items until the queue is shut down. */
export async function countAll({ q }: { q: Queue<unknown> }): Promise<number> {
  let count = 0;
  for await (const _ of q) count++;
  q.close();
  return count;
}

/** Waits for several items at once, and ends as soon as one of the callers has its own. */
export async function takeTogetherAndEnd(
  { q, n, conn, words }: {
    q: Queue<unknown>;
    n: number;
    conn: Connection<unknown>;
    words: Int32Array;
  },
): Promise<void> {
  for (let i = 0; i < n; i++) {
    q.get().then(() => {
      Atomics.add(words, 0, 1);
      exit();
    });
  }
  await conn.send("waiting");
  await new Promise(() => {});
}

/** Puts the numbers `from` to `to`, one by one. */
export async function produce(
  { q, from, to, name }: {
    q: Queue<unknown>;
    from: number;
    to: number;
    name?: string;
  },
): Promise<void> {
  for (let i = from; i < to; i++) await q.put(name ? [name, i] : i);
  q.close();
  await q.join_thread();
}

/** Doubles items, and says that each is done. */
export async function double(
  { jobs, results }: { jobs: JoinableQueue<number>; results: Queue<number> },
): Promise<void> {
  try {
    while (true) {
      const job = await jobs.get();
      await results.put(job * 2);
      await jobs.task_done();
    }
  } catch (error) {
    if (!(error instanceof ShutDown)) throw error;
  }
  jobs.close();
  results.close();
}

/** Takes an item with a connection and a queue in it, and puts there what comes through the connection. */
export async function passOn(
  { q }: { q: Queue<{ conn: Connection<unknown>; results: Queue<unknown> }> },
): Promise<void> {
  const { conn, results } = await q.get();
  q.close();
  for await (const message of conn) await results.put(message);
  conn.close();
  results.close();
  await results.join_thread();
}

/** Gets `n` items and never ends. */
export async function take(
  { q, n, conn }: { q: Queue<unknown>; n: number; conn: Connection<unknown> },
): Promise<void> {
  for (let i = 0; i < n; i++) await conn.send(await q.get());
  await new Promise(() => {});
}

/** Fills a queue of two, then calls puts without waiting, one of them of a connection. */
export async function put_in_order(
  { q, conn }: { q: Queue<unknown>; conn: Connection<unknown> },
): Promise<void> {
  const [a, b] = Pipe();
  await q.put(1);
  await q.put(2);
  const puts = [q.put(b), q.put("after"), q.put("last")];
  await conn.send("waiting");
  await Promise.all(puts);
  await conn.recv();
  a.close();
  conn.close();
  q.close();
}

/** Loops without returning to its events, until word 0 is not 0. */
function block(words: Int32Array): void {
  Atomics.store(words, 1, 1);
  while (Atomics.load(words, 0) === 0);
}

// deno-lint-ignore no-explicit-any
type Anything = any;

/** Holds endpoints by name, and calls what it is told to (see `_holder.ts`). */
export async function holder(
  { control, noSharedMemory, given }: {
    control: Connection<unknown>;
    noSharedMemory: boolean;
    given: Record<string, unknown>;
  },
): Promise<void> {
  force.noSharedMemory = noSharedMemory;
  const things = new Map<string, Anything>(Object.entries(given));
  const aborters = new Map<string, AbortController>();
  const aborter = (name: string) => {
    if (!aborters.has(name)) aborters.set(name, new AbortController());
    return aborters.get(name)!;
  };
  const resolve = (value: Anything): unknown => {
    if (typeof value !== "object" || value === null) return value;
    if ("$held" in value) return things.get(value.$held);
    if ("$signal" in value) return aborter(value.$signal).signal;
    if ("$uncloneable" in value) return () => {};
    if (Array.isArray(value)) return value.map(resolve);
    if (Object.getPrototypeOf(value) !== Object.prototype) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, field]) => [key, resolve(field)]),
    );
  };
  const perform = (order: Order): unknown => {
    const { op, name, value, method = "", args = [], as } = order;
    switch (op) {
      case "hold":
        return void things.set(name, value);
      case "make": {
        const kind = value === "Queue" ? Queue : JoinableQueue;
        return void things.set(name, new kind(args[0] as number));
      }
      case "give":
        return { value: things.get(name) };
      case "abort":
        return aborter(name).abort(new Error(value as string));
      case "leave":
        if (name === "exit") exit();
        else if (name === "return") {
          control.close();
          things.clear();
        } else {
          setTimeout(() => {
            throw new Error("Thrown on request");
          });
        }
        return new Promise(() => {});
      case "call": {
        if (name === "self") {
          // The answer leaves before the loop begins.
          control.send({ id: order.id, called: true });
          return Promise.resolve().then(() => block(args[0] as Int32Array));
        }
        const result = things.get(name)[method](...args.map(resolve));
        control.send({ id: order.id, called: true });
        if (as === undefined) return result;
        return Promise.resolve(result).then((got) => void things.set(as, got));
      }
      default:
        throw new Error(`Cannot ${op}`);
    }
  };
  try {
    for await (const order of control as Connection<Order>) {
      Promise.resolve().then(() => perform(order)).then(
        (ok) => control.send({ id: order.id, ok }),
        ({ name, message }) =>
          control.send({ id: order.id, error: { name, message } }),
      ).catch(() => {});
    }
  } catch (error) {
    if (things.size > 0) throw error;
    return; // told to return
  }
  for (const thing of things.values()) thing?.close?.();
  control.close();
}
