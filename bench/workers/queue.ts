// The other side of `queue.ts`: takes items until the mark, reports, waits for the next round; or puts.

import { type Connection, type Queue, unpack } from "../../mod.ts";
import { listen } from "../_threads.ts";

/** The item that ends a round for the consumer that gets it. */
const MARK = null;

/** What this worker is told to do. */
export interface Job {
  work:
    | "get"
    | "get_many"
    | "put"
    | "put_many"
    | "ask"
    | "comlink"
    | "stream";
  /** Rounds begin and end here. */
  conn: Connection;
  queue?: Queue;
  /** More handles of it, all taken from at once. */
  handles?: Queue[];
  port?: MessagePort;
  stream?: ReadableStream;
  /** Where comlink is. */
  url?: string;
  /** Items of a round, for a producer; whether it puts the mark behind them. */
  count?: number;
  mark?: boolean;
}

type Next = () => Promise<unknown>;

/** Takes items by `next` until the mark, round after round. */
async function consume(next: Next, conn: Connection): Promise<void> {
  for (let taken = 0;; taken++) {
    if (await next() !== MARK) continue;
    await conn.send(taken);
    await conn.recv();
    taken = -1;
  }
}

async function consumeMany(queue: Queue, conn: Connection): Promise<void> {
  for (let taken = 0;;) {
    const items = await queue.get_many(256);
    taken += items.length;
    if (items[items.length - 1] !== MARK) continue;
    await conn.send(taken - 1);
    await conn.recv();
    taken = 0;
  }
}

/** Several handles in this thread, each taken from by a loop of its own. */
async function consumeByAll(handles: Queue[], conn: Connection): Promise<void> {
  while (true) {
    let taken = 0;
    await Promise.all(handles.map(async (queue) => {
      while (await queue.get() !== MARK) taken++;
    }));
    await conn.send(taken);
    await conn.recv();
  }
}

async function produce({ queue, conn, count = 0, mark }: Job): Promise<void> {
  while (await conn.recv()) {
    for (let i = 0; i < count; i++) {
      await queue!.put({ id: i, name: "xiao" });
    }
    if (mark) await queue!.put(MARK);
  }
}

/** As `produce`, 250 at a time. */
async function produceMany({ queue, conn, count = 0, mark }: Job) {
  while (await conn.recv()) {
    for (let i = 0; i < count; i += 250) {
      await queue!.put_many(
        Array.from({ length: 250 }, (_, j) => ({ id: i + j, name: "xiao" })),
      );
    }
    if (mark) await queue!.put(MARK);
  }
}

/** A hand-written loop: asks for each item, waits for it. */
function asking(port: MessagePort): Next {
  let done: (item: unknown) => void = () => {};
  port.onmessage = ({ data }) => done(data);
  return () =>
    new Promise((resolve) => {
      done = resolve;
      port.postMessage(0);
    });
}

listen((data) => {
  const job = unpack<Job>(data);
  const { work, queue, handles, conn, port, stream, url } = job;
  switch (work) {
    case "get":
      if (handles) return void consumeByAll(handles, conn);
      return void consume(() => queue!.get(), conn);
    case "get_many":
      return void consumeMany(queue!, conn);
    case "put":
      return void produce(job);
    case "put_many":
      return void produceMany(job);
    case "ask":
      return void consume(asking(port!), conn);
    case "comlink":
      return void import(url!).then(({ wrap }) => {
        const owner = wrap(port) as { next(): Promise<unknown> };
        return consume(() => owner.next(), conn);
      });
    case "stream": {
      const reader = stream!.getReader();
      void consume(async () => (await reader.read()).value, conn);
    }
  }
});
