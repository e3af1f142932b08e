// As in Node: threads of `node:worker_threads`, which Deno and Bun have too. Only the lines about the
// worker differ from those of the web platform.

import { Worker } from "node:worker_threads";
import { pack, Queue } from "../../mod.ts";

const jobs = new Queue<number>(100);
const results = new Queue<[n: number, squared: number]>();
const worker = new Worker(new URL("./worker.ts", import.meta.url));
worker.postMessage(...pack({ jobs, results }));

for (const n of [1, 2, 3]) await jobs.put(n);
await jobs.shutdown();
for (let i = 0; i < 3; i++) {
  const [n, squared] = await results.get();
  console.log(`${n} × ${n} = ${squared}`);
}
await worker.terminate();
