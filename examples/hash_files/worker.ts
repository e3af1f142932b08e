import type { Queue } from "../../mod.ts";
import { work } from "../_worker.ts";
import { digest } from "./digest.ts";

/** What a worker is started with. */
export interface Args {
  paths: Queue<string>;
  results: Queue<Result>;
  /** Where to throw, to show that nothing is lost. */
  crashAt: string | undefined;
}

/** One answer. */
export interface Result {
  path: string;
  sha256: string;
}

await work(async ({ paths, results, crashAt }: Args) => {
  for await (const path of paths) {
    if (path === crashAt) throw new Error(`Crashed at ${path}`);
    await results.put({ path, sha256: await digest(path) });
  }
});
