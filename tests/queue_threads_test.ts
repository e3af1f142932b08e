import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  Connection,
  Empty,
  EOFError,
  Full,
  JoinableQueue,
  OSError,
  pack,
  Pipe,
  Queue,
  ShutDown,
  unpack,
} from "../mod.ts";
import { force } from "../_runtime.ts";
import { type Need, spawnTask, test } from "./_harness.ts";

const module = new URL("./workers/queue_tasks.ts", import.meta.url);

test("Queue in one thread works as in the notes", async () => {
  const q = new Queue<unknown>(3);
  await q.put({ name: "xiao" });
  await q.put([1, 2, 3, 4, 5]);
  await q.put("shawn");
  await assertRejects(() => q.put(1777, { block: false }), Full);
  await assertRejects(() => q.put(1777, { timeout: 10 }), Full);
  assertEquals(await q.get(), { name: "xiao" });
  assertEquals(await q.get(), [1, 2, 3, 4, 5]);
  assertEquals(await q.get(), "shawn");
  await assertRejects(() => q.get({ block: false }), Empty);
  await assertRejects(() => q.get({ timeout: 10 }), Empty);
  q.close();
  await assertRejects(() => q.get(), OSError, "queue is closed");
  await q.join_thread();
});

for (const noSharedMemory of [false, true]) {
  const how = noSharedMemory ? "without" : "with";
  const queueTest = (
    name: string,
    fn: () => Promise<void>,
    needs: Need[] = ["workers"],
  ) =>
    test(`${name} ${how} shared memory`, async () => {
      force.noSharedMemory = noSharedMemory;
      try {
        await fn();
      } finally {
        force.noSharedMemory = false;
      }
    }, { needs });

  queueTest("Queue feeds one worker in order", async () => {
    const q = new Queue<number>();
    const run = spawnTask("drain", { q }, { module });
    for (let i = 0; i < 5000; i++) await q.put(i);
    await q.put_many(Array.from({ length: 5000 }, (_, i) => 5000 + i));
    await q.shutdown();
    assertEquals(await run.result, Array.from({ length: 10000 }, (_, i) => i));
    assertEquals(await q.qsize(), 0);
    q.close();
  });

  queueTest("Queue feeds two workers, each item once", async () => {
    const q = new Queue<number>(100);
    const runs = [1, 2].map(() => spawnTask("drain", { q }, { module }));
    for (let i = 0; i < 5000; i++) await q.put(i);
    await q.shutdown();
    const [a, b] = await Promise.all(runs.map((run) => run.result)) as [
      number[],
      number[],
    ];
    const all = [...a, ...b].sort((x, y) => x - y);
    assertEquals(all, Array.from({ length: 5000 }, (_, i) => i));
    for (const part of [a, b]) {
      for (let i = 1; i < part.length; i++) assert(part[i]! > part[i - 1]!);
    }
    q.close();
  });

  queueTest("Queue takes from two workers", async () => {
    const q = new Queue<[string, number]>(10);
    const runs = ["a", "b"].map((name) =>
      spawnTask("produce", { q, from: 0, to: 1000, name }, { module })
    );
    const next: Record<string, number> = { a: 0, b: 0 };
    for (let i = 0; i < 2000; i++) {
      const [name, n] = await q.get();
      assertEquals(n, next[name]!++);
      assert(await q.qsize() <= 10);
    }
    for (const run of runs) await run.result;
    await assertRejects(() => q.get_nowait(), Empty);
    q.close();
  });

  queueTest("Queue carries items from worker to worker", async () => {
    const q = new Queue<number>(50);
    const drain = spawnTask("drain", { q }, { module });
    await spawnTask("produce", { q, from: 0, to: 3000 }, { module }).result;
    await q.shutdown();
    assertEquals(await drain.result, Array.from({ length: 3000 }, (_, i) => i));
    q.close();
  });

  queueTest("JoinableQueue joins across threads", async () => {
    const jobs = new JoinableQueue<number>();
    const results = new Queue<number>();
    const runs = [1, 2].map(() =>
      spawnTask("double", { jobs, results }, { module })
    );
    for (let i = 0; i < 100; i++) await jobs.put(i);
    await jobs.join();
    assertEquals(await results.qsize(), 100);
    await jobs.shutdown();
    for (const run of runs) await run.result;
    let sum = 0;
    for (const x of await results.get_many(1000)) sum += x;
    assertEquals(sum, 9900);
    await assertRejects(() => jobs.task_done(), RangeError, "too many times");
    jobs.close();
    results.close();
  });

  queueTest(
    "gets that wait together: the first caller ends the thread, and no item of the others is lost",
    async () => {
      const n = 20;
      const q = new Queue<number>();
      const words = new Int32Array(new SharedArrayBuffer(4));
      const [here, conn] = Pipe<string>();
      const run = spawnTask("takeTogetherAndEnd", { q, n, conn, words }, {
        module,
      });
      await here.recv();
      await q.put_many(Array.from({ length: n }, (_, i) => i));
      await assertRejects(() => here.recv(), EOFError);
      await run.worker.terminate();
      const rest: number[] = [];
      while (rest.length < n - Atomics.load(words, 0)) {
        rest.push(await q.get());
      }
      assertEquals(rest.at(-1), n - 1);
      assertEquals(await q.qsize(), 0);
      here.close();
      q.close();
    },
    ["workers", "shared", "fatal errors"],
  );

  queueTest("Queue loses nothing when a consumer is terminated", async () => {
    const q = new Queue<number>();
    const got: number[] = [];
    for (let i = 0; i < 1000; i++) await q.put(i);
    for (let round = 0; round < 3; round++) {
      const [here, there] = Pipe<number>();
      const run = spawnTask("take", { q, n: 10, conn: there }, { module });
      for (let i = 0; i < 10; i++) got.push(await here.recv());
      await run.worker.terminate();
      here.close();
      await run.result.catch(() => {});
    }
    while (true) {
      try {
        got.push(await q.get_nowait());
      } catch (error) {
        assert(error instanceof Empty);
        if (await q.empty()) break;
      }
    }
    assertEquals(got, Array.from({ length: 1000 }, (_, i) => i));
    q.close();
  });

  queueTest("Queue carries connections and queues", async () => {
    const q = new Queue<unknown>();
    const results = new Queue<number>();
    const [a, b] = Pipe<number>();
    const run = spawnTask("passOn", { q }, { module });
    await q.put({ conn: b, results });
    assert(b.closed);
    await a.send(1);
    await a.send(2);
    assertEquals(await results.get(), 1);
    assertEquals(await results.get(), 2);
    a.close();
    await run.result;
    q.close();
    results.close();
  });

  queueTest("Queue shuts down", async () => {
    const q = new Queue<number>(2);
    await q.put(1);
    await q.put(2);
    const waiting = assertRejects(() => q.put(3), ShutDown);
    await q.shutdown();
    await waiting;
    await assertRejects(() => q.put(4), ShutDown);
    assertEquals(await q.get(), 1);
    assertEquals(await q.get(), 2);
    await assertRejects(() => q.get(), ShutDown);
    q.close();
  }, []);
}

test("Queue comes back to its own thread", async () => {
  const q = new Queue<number>();
  const [message, transfer] = pack({ q });
  const copy = unpack<{ q: Queue<number> }>(
    structuredClone(message, { transfer }),
  ).q;
  await copy.put(1);
  assertEquals(await q.get(), 1);
  copy.close();
  q.close();
}, { needs: ["transfer"] });

for (const noSharedMemory of [false, true]) {
  test(
    `Queue keeps the order of a waiting put of endpoints, shared memory ${!noSharedMemory}`,
    async () => {
      force.noSharedMemory = noSharedMemory;
      try {
        const q = new Queue<unknown>(2);
        const [here, there] = Pipe<unknown>();
        const run = spawnTask("put_in_order", { q, conn: there }, { module });
        assertEquals(await here.recv(), "waiting");
        const got: unknown[] = [];
        for (let i = 0; i < 5; i++) got.push(await q.get());
        await here.send("got");
        const kinds = got.map((x) => x instanceof Connection ? "conn" : x);
        assertEquals(kinds, [1, 2, "conn", "after", "last"]);
        for (const x of got) if (x instanceof Connection) x.close();
        await run.result;
        here.close();
        q.close();
      } finally {
        force.noSharedMemory = false;
      }
    },
    { needs: ["workers"] },
  );
}
