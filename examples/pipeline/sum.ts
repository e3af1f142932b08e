import type { Connection, JoinableQueue } from "../../mod.ts";
import { work } from "../_worker.ts";

interface Args {
  primes: JoinableQueue<number>;
  reply: Connection<never, { count: number; sum: number }>;
}

await work(async ({ primes, reply }: Args) => {
  let count = 0;
  let sum = 0;
  for await (const prime of primes) {
    count++;
    sum += prime;
    await primes.task_done();
  }
  await reply.send({ count, sum });
  reply.close();
});
