// Three stages over two queues: numbers → primes → their sum. Two workers share the second stage.

import { JoinableQueue, Pipe } from "../../mod.ts";
import { start } from "../_worker.ts";

const numbers = new JoinableQueue<number>(100);
const primes = new JoinableQueue<number>(100);
const [answer, reply] = Pipe<{ count: number; sum: number }>(false);

const first = start(new URL("./numbers.ts", import.meta.url), {
  numbers,
  limit: 10_000,
});
const later = [
  start(new URL("./primes.ts", import.meta.url), { numbers, primes }),
  start(new URL("./primes.ts", import.meta.url), { numbers, primes }),
  start(new URL("./sum.ts", import.meta.url), { primes, reply }),
];

// The orderly end, stage by stage: all put, all of it done, no more to come.
await first.join();
await numbers.join();
await numbers.shutdown();
await primes.join();
await primes.shutdown();

const { count, sum } = await answer.recv();
for (const worker of later) await worker.join();
answer.close();
console.log(`${count} primes below 10000, their sum is ${sum}`);
