import { parentPort } from "node:worker_threads";
import { type Queue, unpack } from "../../mod.ts";

interface Args {
  jobs: Queue<number>;
  results: Queue<[n: number, squared: number]>;
}

parentPort!.once("message", async (message) => {
  const { jobs, results } = unpack<Args>(message);
  for await (const n of jobs) await results.put([n, n * n]);
});
