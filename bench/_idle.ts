// Runs inside each runtime, in a process of its own: prints how many bytes one of many idle things takes.
// Argument: what. The process's resident memory counts, since ports live outside of the heap.

import { pack, Pipe, Queue } from "../mod.ts";
import { median } from "./_rows.ts";
import { collect, thread } from "./_threads.ts";

interface Host {
  process: {
    argv: string[];
    exit(): void;
    memoryUsage(): { rss: number };
  };
}

const { process } = globalThis as unknown as Host;
/** How many are made at a time, and how often. */
const COUNT = 2000;
const TIMES = 3;

/** Makes one; and what there is to do before the garbage is collected. */
type Kind = [make: () => unknown, settle?: () => Promise<unknown>];

const kinds: Record<string, () => Kind> = {
  "bare MessageChannel": () => [() => new MessageChannel()],
  "bare MessageChannel, used": () => [async () => {
    const { port1, port2 } = new MessageChannel();
    await new Promise((done) => {
      port2.onmessage = done;
      port1.postMessage(1);
    });
    return [port1, port2];
  }],
  Pipe: () => [() => Pipe()],
  "Pipe, used": () => [async () => {
    const [a, b] = Pipe<number>();
    await a.send(1);
    await b.recv();
    return [a, b];
  }],
  Queue: () => [() => new Queue()],
  "Queue, used": () => [async () => {
    const queue = new Queue<number>();
    await queue.put(1);
    await queue.get();
    return queue;
  }],
  "Queue handle in a worker, both sides": () => {
    const queue = new Queue<number>();
    const [here, there] = Pipe<string>();
    const started = thread("idle.ts");
    started.then(({ post }) => post(...pack({ conn: there })));
    return [
      async () => (await started).post(...pack({ queue })),
      async () => {
        (await started).post("collect");
        await here.recv();
      },
    ];
  },
};

/** What there is to measure. */
export const IDLE: string[] = Object.keys(kinds);

async function measure(what: string): Promise<void> {
  const [make, settle] = kinds[what]!();
  const kept: unknown[] = [];
  const many = async () => {
    for (let i = 0; i < COUNT; i++) kept.push(await make());
    await settle?.();
    await collect();
    return process.memoryUsage().rss;
  };
  const bytes: number[] = [];
  for (let i = 0, before = await many(); i < TIMES; i++) {
    const after = await many();
    bytes.push((after - before) / COUNT);
    before = after;
  }
  console.log(JSON.stringify({ bytes: Math.round(median(bytes)) }));
  process.exit();
}

if (import.meta.main) await measure(process.argv[2]!);
