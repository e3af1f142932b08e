import type { JoinableQueue } from "../../mod.ts";
import { work } from "../_worker.ts";

interface Args {
  numbers: JoinableQueue<number>;
  primes: JoinableQueue<number>;
}

await work(async ({ numbers, primes }: Args) => {
  for await (const n of numbers) {
    if (isPrime(n)) await primes.put(n);
    await numbers.task_done(); // only now: what came of it is in the next queue
  }
});

function isPrime(n: number): boolean {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return n > 1;
}
