// `deno task soak`: messages, items, pipes and workers in numbers that SCALE multiplies (100 is the most).
// After a first part as a warm-up, memory, ports, holds and listeners stay what they are. It has to be
// started with a garbage collector that can be called. Ends by itself, with one line. Arguments: which of
// them, by their first words ("messages", "items", "pipes", "workers", "dropped").

import { type Connection, Pipe, Queue } from "../mod.ts";
import { liveHolds, livePorts } from "../_runtime.ts";
import { allSettled } from "./_pending.ts";
import { scale } from "./_random.ts";
import { callsOfEnded, spawnTask } from "./_spawn.ts";

// deno-lint-ignore no-explicit-any
const { process, Bun, gc } = globalThis as any;

const args: string[] = process.argv.slice(2);
const short = args.includes("short") ? 0.2 : 1;
const chosen = args.filter((arg) => arg !== "short");
const most = (count: number, limit: number) =>
  Math.min(limit, scale(count * short));
const MESSAGES = most(1_000_000, 1e8);
const ITEMS = most(50_000, 1e6);
const PIPES = most(5_000, 1e5);
const WORKERS = most(100, 1e4);
const DROPPED = most(500, 1e4);

const PIPE_TASKS = new URL("./workers/pipe_tasks.ts", import.meta.url);
const QUEUE_TASKS = new URL("./workers/queue_tasks.ts", import.meta.url);
/** Memory may grow by so many MiB after the warm-up; engines keep some for themselves. */
const SLACK = 96;

/** Resident memory in MiB, without garbage. */
async function memory(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    if (Bun) Bun.gc(true);
    else gc();
    await new Promise((done) => setTimeout(done, 10));
  }
  return Math.round(process.memoryUsage().rss / 2 ** 20);
}

function demand(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

const lines: string[] = [];

/** Does something in ten parts: after the first, memory stays. */
async function soak(
  name: string,
  count: number,
  part: (count: number) => Promise<void>,
): Promise<void> {
  if (chosen.length > 0 && !chosen.includes(name.split(" ")[0]!)) return;
  await part(Math.ceil(count / 10));
  const before = await memory();
  for (let i = 1; i < 10; i++) await part(Math.ceil(count / 10));
  let after = await memory();
  // A thread that has said its last word may still be giving its memory back.
  for (let i = 0; i < 100 && after - before >= SLACK; i++) {
    after = await memory();
  }
  lines.push(`${count} ${name} (${before} → ${after} MiB)`);
  console.log(lines[lines.length - 1]);
  demand(after - before < SLACK, `${name}: ${after - before} MiB more`);
  // The last word of a handle elsewhere may be on its way.
  for (let i = 0; i < 200 && livePorts() > 0; i++) await memory();
  demand(livePorts() === 0, `${name}: ${livePorts()} ports left`);
  demand(liveHolds() === 0, `${name}: ${liveHolds()} holds left`);
  const calls = [...await allSettled(1000), ...callsOfEnded()];
  demand(calls.length === 0, `${name}: pending ${calls.join(", ")}`);
}

await soak("messages", MESSAGES, async (count) => {
  const [near, conn] = Pipe<unknown>();
  const { result } = spawnTask("countAll", { conn }, { module: PIPE_TASKS });
  for (let i = 0; i < count;) {
    const burst: Promise<void>[] = [];
    for (let j = 0; j < 100 && i < count; j++, i++) {
      burst.push(near.send({ i, name: "x" }));
    }
    await Promise.all(burst);
  }
  near.close();
  demand(await result === count, "messages were lost");
});

// All of them are in the queue at one time.
await soak("items", ITEMS * 10, async (count) => {
  const q = new Queue<unknown>();
  for (let i = 0; i < count; i++) await q.put({ i, name: "x" });
  demand(await q.qsize() === count, "items were lost");
  const { result } = spawnTask("countAll", { q }, { module: QUEUE_TASKS });
  await q.shutdown();
  demand(await result === count, "items were lost");
  q.close();
  await q.join_thread();
});

/** A signal that counts who listens to it. */
function counted(): [signal: AbortSignal, listeners: () => number] {
  const { signal } = new AbortController();
  const { addEventListener, removeEventListener } = signal;
  let listeners = 0;
  Object.assign(signal, {
    addEventListener(...args: Parameters<typeof addEventListener>) {
      listeners++;
      return addEventListener.apply(signal, args);
    },
    removeEventListener(...args: Parameters<typeof removeEventListener>) {
      listeners--;
      return removeEventListener.apply(signal, args);
    },
  });
  return [signal, () => listeners];
}

await soak("pipes", PIPES, async (count) => {
  const [signal, listeners] = counted();
  for (let i = 0; i < count; i++) {
    const [a, b] = Pipe<number>();
    const received = b.recv({ signal });
    await a.send(i);
    demand(await received === i, "a message was lost");
    const waits = a.recv({ signal }).catch(() => {});
    const polls = a.poll(60_000, { signal }).catch(() => {});
    a.close();
    b.close();
    await waits;
    await polls;
  }
  demand(listeners() === 0, `${listeners()} listeners left`);
});

await soak("workers", WORKERS, async (count) => {
  for (let i = 0; i < count; i++) {
    const [near, conn] = Pipe<{ q: Queue<number> }>();
    const q = new Queue<number>(2);
    const { worker } = spawnTask("holdIt", { conn, q }, { module: PIPE_TASKS });
    await worker.next(); // it has what it was given
    await near.send({ q });
    await q.put(i);
    await worker.terminate();
    await worker.exited;
    demand(await near.poll(null), "no end of file");
    near.close();
    q.close();
    await q.join_thread();
  }
  for (let i = 0; i < 200 && livePorts() > 0; i++) await memory();
});

await soak("dropped ends and handles", DROPPED * 10, async (count) => {
  const drop = async () => {
    const [a, b] = Pipe<Connection<unknown>>();
    const [c] = Pipe();
    await a.send(c as Connection<unknown>); // in a message that nobody reads
    await b.poll(0);
    const q = new Queue<Queue<number>>();
    await q.put(new Queue<number>());
    await q.qsize();
  };
  for (let i = 0; i < count; i++) await drop();
  for (let i = 0; i < 500 && livePorts() > 0; i++) await memory();
});

if (lines.length === 0) throw new Error(`No soak is called ${chosen}`);
console.log(
  `soak: ${lines.join(", ")}, 0 ports, 0 holds, 0 listeners, 0 calls left`,
);
