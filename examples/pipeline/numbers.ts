import type { JoinableQueue } from "../../mod.ts";
import { work } from "../_worker.ts";

interface Args {
  numbers: JoinableQueue<number>;
  limit: number;
}

await work(async ({ numbers, limit }: Args) => {
  for (let n = 2; n < limit; n++) await numbers.put(n); // waits while it is full
});
