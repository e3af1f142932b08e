// A Queue against what people use instead: a hand-written request loop over a port, a transferred
// stream, the channel of `multithreading`.

import { type Connection, pack, Pipe, Queue, unpack } from "../mod.ts";
import { rate, type Row, type Way } from "./_rows.ts";
import * as sketches from "./_sketches.ts";
import { type Thread, thread } from "./_threads.ts";
import type { Job } from "./workers/queue.ts";

/** Of a round; without shared memory each costs several posts. */
const SHARED = typeof SharedArrayBuffer === "function";
const ITEMS = SHARED ? 20_000 : 2_000;
/** For what takes a post or a round trip an item. */
const FEWER = 4_000;

/** The item that ends a round for the consumer that gets it. */
const MARK = null;

type Item = { id: number; name: string } | null;

function item(i: number): Item {
  return { id: i, name: "xiao" };
}

/** A worker at a job, and the pipe to it. */
interface Hand {
  conn: Connection<number>;
  thread: Thread;
}

async function hire(job: Omit<Job, "conn">, transfer: Transferable[] = []) {
  const started = await thread("queue.ts");
  const [here, there] = Pipe<number>();
  const [message, ports] = pack({ ...job, conn: there });
  started.post(message, [...ports, ...transfer]);
  return { conn: here, thread: started } satisfies Hand;
}

async function dismiss(hands: Hand[]): Promise<void> {
  for (const { conn, thread } of hands) {
    conn.close();
    await thread.end();
  }
}

/** The end of a round: every consumer has had its mark. */
async function finish(hands: Hand[], expected: number): Promise<void> {
  let taken = 0;
  for (const { conn } of hands) taken += await conn.recv();
  if (taken !== expected) throw new Error(`${taken} items of ${expected}`);
  for (const { conn } of hands) await conn.send(0);
}

// --- Ways to feed consumers -------------------------------------------------------

async function module(
  consumers: number,
  { maxsize = 0, work = "get" as Job["work"], handles = 1, items = ITEMS } = {},
): Promise<Way> {
  const queue = new Queue<Item>(maxsize);
  const hands: Hand[] = [];
  for (let i = 0; i < consumers; i++) {
    const several = Array.from({ length: handles }, () => queue);
    // The same queue at one place is one handle; a pack for each makes many.
    hands.push(
      await hire(
        handles === 1
          ? { work, queue }
          : { work, queue, handles: several.map(copy) },
      ),
    );
  }
  return {
    round: () =>
      rate(items, async () => {
        for (let i = 0; i < items; i++) await queue.put(item(i));
        for (let i = 0; i < consumers * handles; i++) await queue.put(MARK);
        await finish(hands, items);
      }),
    end: async () => {
      queue.close();
      await dismiss(hands);
    },
  };
}

/** Another handle in this thread, so that it travels as another handle. */
function copy(queue: Queue<Item>): Queue<Item> {
  const [message, transfer] = pack(queue);
  return unpack(structuredClone(message, { transfer }));
}

/** Takes items that were all there before the first is taken. */
function waiting(count: number): () => Promise<Way> {
  return () =>
    Promise.resolve({
      round: async () => {
        const rounds = Math.max(1, 100_000 / count);
        let spent = 0;
        for (let r = 0; r < rounds; r++) {
          const queue = new Queue<Item>();
          await queue.put_many(
            Array.from({ length: count }, (_, i) => item(i)),
          );
          const start = performance.now();
          for (let i = 0; i < count; i++) await queue.get();
          spent += performance.now() - start;
          queue.close();
        }
        return (rounds * count) / (spent / 1000);
      },
    });
}

/** A hand-written loop: the worker asks, the owner answers with the next item. */
async function loop(consumers: number): Promise<Way> {
  let next: () => Item = () => MARK;
  let start = () => {};
  const hands: Hand[] = [];
  const ports: MessagePort[] = [];
  for (let i = 0; i < consumers; i++) {
    const { port1, port2 } = new MessageChannel();
    const asked: number[] = [];
    let running = false;
    const answer = () => {
      while (asked.length > 0 && running) {
        asked.pop();
        const given = next();
        if (given === MARK) running = false;
        port1.postMessage(given);
      }
    };
    const before = start;
    start = () => {
      before();
      running = true;
      answer();
    };
    port1.onmessage = () => {
      asked.push(1);
      answer();
    };
    ports.push(port1);
    hands.push(await hire({ work: "ask", port: port2 }, [port2]));
  }
  return {
    round: () =>
      rate(FEWER, async () => {
        let i = 0;
        next = () => i < FEWER ? item(i++) : MARK;
        start();
        await finish(hands, FEWER);
      }),
    end: async () => {
      for (const port of ports) port.close();
      await dismiss(hands);
    },
  };
}

interface Comlink {
  expose(api: { next(): Promise<Item> }, port: MessagePort): void;
}

/** The same loop with calls of comlink. */
async function comlink(peers: string | null): Promise<Way | undefined> {
  if (peers === null) return undefined;
  const url = `${peers}/comlink/dist/esm/comlink.mjs`;
  const { expose } = await import(url) as Comlink;
  const { port1, port2 } = new MessageChannel();
  let left = 0;
  let begin: (value?: unknown) => void;
  let begun: Promise<unknown>;
  const wait = () => begun = new Promise((done) => begin = done);
  wait();
  const next = async () => {
    await begun;
    if (left > 0) return item(left--);
    wait();
    return MARK;
  };
  expose({ next }, port1);
  const hand = await hire({ work: "comlink", url, port: port2 }, [port2]);
  return {
    round: () =>
      rate(FEWER, async () => {
        left = FEWER;
        begin();
        await finish([hand], FEWER);
      }),
    end: async () => {
      port1.close();
      await dismiss([hand]);
    },
  };
}

/** The platform's own answer; one consumer only, and not in Bun. */
async function stream(): Promise<Way | undefined> {
  const { readable, writable } = new TransformStream();
  let hand: Hand;
  try {
    hand = await hire(
      { work: "stream", stream: readable },
      [readable as unknown as Transferable],
    );
  } catch {
    return undefined;
  }
  const writer = writable.getWriter();
  return {
    round: () =>
      rate(FEWER, async () => {
        for (let i = 0; i < FEWER; i++) {
          await writer.ready;
          writer.write(item(i)).catch(() => {});
        }
        writer.write(MARK).catch(() => {});
        await finish([hand], FEWER);
      }),
    end: async () => {
      writer.abort().catch(() => {});
      await dismiss([hand]);
    },
  };
}

// --- The channel of `multithreading` -------------------------------------------------

interface Multithreading {
  channel(capacity?: number): [
    { send(value: unknown): Promise<unknown>; close?(): void },
    { clone(): unknown },
  ];
  spawn(args: unknown, run: unknown): { join(): Promise<unknown> };
  move(...args: unknown[]): unknown;
  shutdown(): void;
  initRuntime(options: { maxWorkers: number }): void;
}

/** Set up anew each round: its consumers end with the channel. */
function multithreading(
  peers: string | null,
  consumers: number,
): () => Promise<Way | undefined> {
  return async () => {
    if (peers === null) return undefined;
    const runtime = "Deno" in globalThis
      ? "deno"
      : "Bun" in globalThis
      ? "default"
      : "node";
    const { channel, spawn, move } = await import(
      `${peers}/multithreading/src/${runtime}/lib.js`
    ) as Multithreading;
    return {
      round: async () => {
        const [data, marks] = [channel(), channel()]; // its own default capacity
        const [toConsumers, fromOwner] = data;
        const [toOwner, fromConsumers] = marks as unknown as [
          { clone(): unknown },
          { recv(): Promise<{ value: number }> },
        ];
        const handles = Array.from({ length: consumers }, () =>
          spawn(
            move(fromOwner.clone(), toOwner.clone()),
            async (
              from: { recv(): Promise<{ value: unknown }> },
              to: { send(value: unknown): Promise<unknown> },
            ) => {
              await to.send(-1); // here
              for (let taken = 0;; taken++) {
                if ((await from.recv()).value === 0) { // null hangs it
                  await to.send(taken);
                  return;
                }
              }
            },
          ));
        for (let i = 0; i < consumers; i++) await fromConsumers.recv();
        const measured = await rate(ITEMS, async () => {
          for (let i = 0; i < ITEMS; i++) await toConsumers.send(item(i));
          for (let i = 0; i < consumers; i++) await toConsumers.send(0);
          let taken = 0;
          for (let i = 0; i < consumers; i++) {
            taken += (await fromConsumers.recv()).value;
          }
          if (taken !== ITEMS) throw new Error(`${taken} items`);
        });
        await Promise.all(handles.map((handle) => handle.join()));
        return measured;
      },
    };
  };
}

// --- Producers elsewhere ---------------------------------------------------------------

async function fromWorker(work: "put" | "put_many"): Promise<Way> {
  const queue = new Queue<Item>();
  const hand = await hire({ work, queue, count: ITEMS });
  return {
    round: () =>
      rate(ITEMS, async () => {
        await hand.conn.send(1);
        for (let i = 0; i < ITEMS; i++) await queue.get();
      }),
    end: async () => {
      queue.close();
      await dismiss([hand]);
    },
  };
}

async function workerToWorker(work: "put" | "put_many"): Promise<Way> {
  const queue = new Queue<Item>();
  const producer = await hire({ work, queue, count: ITEMS, mark: true });
  const consumer = await hire({ work: "get", queue });
  return {
    round: () =>
      rate(ITEMS, async () => {
        await producer.conn.send(1);
        await finish([consumer], ITEMS);
      }),
    end: async () => {
      queue.close();
      await dismiss([producer, consumer]);
    },
  };
}

/** The rows; `peers` is where the packages of other people are. */
export function make(peers: string | null): Row[] {
  const feed = (consumers: number): Row => ({
    name: `queue, owner to ${consumers} worker${consumers > 1 ? "s" : ""}`,
    unit: "items",
    floor: ["multithreading"],
    goal: 4,
    goals: { Python: 10, stream: 25, loop: 3 },
    sketches: ["sketch"],
    ways: {
      sketch: SHARED ? sketches.bounded(ITEMS) : sketches.requests(ITEMS),
      loop: () => loop(consumers),
      ...(consumers === 1 ? { comlink: () => comlink(peers), stream } : {}),
      multithreading: multithreading(peers, consumers),
      module: () => module(consumers),
    },
  });
  const against = (
    name: string,
    goal: number | undefined,
    floor: string,
    ways: Row["ways"],
    more: Partial<Row> = {},
  ): Row => ({
    name,
    unit: "items",
    floor: [floor],
    ...goal === undefined ? {} : { goal },
    ways,
    ...more,
  });
  const byHand = { sketches: ["sketch"], goals: { Python: 5 } };
  return [
    feed(1),
    feed(2),
    feed(4),
    against(
      "queue, maxsize 1000",
      0.85,
      "unbounded",
      {
        ...SHARED
          ? {
            "sketch, unbounded": sketches.bounded(10 * ITEMS),
            "sketch, 1000": sketches.bounded(10 * ITEMS, 1000),
          }
          : {},
        unbounded: () => module(1, { items: 10 * ITEMS }),
        module: () => module(1, { maxsize: 1000, items: 10 * ITEMS }),
      },
      { sketches: ["sketch, 1000"], sketchFloor: "sketch, unbounded" },
    ),
    against("queue, get_many", undefined, "get", {
      get: () => module(1),
      module: () => module(1, { work: "get_many" }),
    }),
    // Long rounds: to wake 64 handles at its start, and to tell each of its end,
    // is a price of the round.
    against("queue, 64 handles", 0.7, "one handle", {
      "one handle": () => module(1, { items: 10 * ITEMS }),
      module: () => module(2, { handles: 32, items: 10 * ITEMS }),
    }),
    against("queue, worker to owner", undefined, "loop", {
      loop: () => loop(1),
      module: () => fromWorker("put"),
    }),
    against("queue, worker to owner, put_many", undefined, "loop", {
      loop: () => loop(1),
      module: () => fromWorker("put_many"),
    }),
    // The sketches: the way to the owner alone.
    against(
      "queue, worker to worker",
      undefined,
      "loop",
      {
        sketch: sketches.posts(ITEMS),
        loop: () => loop(1),
        module: () => workerToWorker("put"),
      },
      byHand,
    ),
    against(
      "queue, worker to worker, put_many",
      undefined,
      "loop",
      {
        sketch: sketches.bursts(ITEMS, item),
        loop: () => loop(1),
        module: () => workerToWorker("put_many"),
      },
      byHand,
    ),
    against(
      "queue, a million waiting",
      0.83,
      "a thousand",
      {
        "sketch, a thousand": sketches.arrayOf(1000),
        "sketch, a million": sketches.arrayOf(1_000_000),
        "a thousand": waiting(1000),
        module: waiting(1_000_000),
      },
      { sketches: ["sketch, a million"], sketchFloor: "sketch, a thousand" },
    ),
  ];
}
