// What threads saw of a queue, in real time, against what a bounded first-in-first-out queue may show.

import { assertEquals } from "@std/assert";
import { Queue } from "../mod.ts";
import { spawnTask, test, type TestOptions } from "./_harness.ts";

const module = new URL("./workers/history_tasks.ts", import.meta.url);
const options: TestOptions = { needs: ["workers", "shared"], deadline: 60_000 };

test(
  "put_nowait() is not refused for a put that has timed out, while the owner is busy",
  async () => {
    const q = new Queue<number>(2);
    const words = new Int32Array(new SharedArrayBuffer(12));
    const task = spawnTask("putAfterTimeout", { puts: q, gets: q, words }, {
      module,
    });
    while (Atomics.load(words, 1) === 0) {
      await new Promise((r) => setTimeout(r));
    }
    Atomics.store(words, 2, 1);
    const late = Date.now() + 10_000;
    while (Atomics.load(words, 0) === 0 && Date.now() < late);
    assertEquals(await task.result, ["1", "2", "Full", "put"]);
    assertEquals([await q.get(), await q.get()], [3, 5]);
    q.close();
  },
  options,
);
