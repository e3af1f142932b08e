// Functions for `spawnTask` that use queues.

import type { Connection, JoinableQueue, Queue } from "../../mod.ts";
import { Pipe, ShutDown } from "../../mod.ts";

/** Gets until the queue is shut down; returns what it got. */
export async function drain(
  { q }: { q: Queue<unknown> },
): Promise<unknown[]> {
  const got: unknown[] = [];
  for await (const item of q) got.push(item);
  q.close();
  return got;
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
