import {
  assert,
  assertEquals,
  assertInstanceOf,
  AssertionError,
  assertNotEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { deadline, delay } from "@std/async";
import { Random, spawn, spawnTask, test } from "./_harness.ts";
import { supervise } from "./_harness.ts";
import { OSError, Pipe } from "../mod.ts";

const ECHO = new URL("./workers/echo.ts", import.meta.url);

test("supervise() rejects at the deadline", async () => {
  await assertRejects(
    () => supervise(() => new Promise<void>(() => {}), 20),
    Error,
    "Deadline: the test was not done within 20 ms",
  );
});

test("supervise() passes a failure on", async () => {
  const error = await assertRejects(() =>
    supervise(() => Promise.reject(new RangeError("Mine")), 1000)
  );
  assertInstanceOf(error, RangeError);
});

test("supervise() ends and reports a worker that was left", async () => {
  let worker: ReturnType<typeof spawn> | undefined;
  const run = async () => {
    worker = spawn(ECHO);
    await worker.ready;
  };
  await assertRejects(
    () => supervise(run, 10_000, 50),
    Error,
    "The test left behind: 1 live worker(s)",
  );
  await worker?.exited;
}, { needs: ["workers"] });

test("supervise() reports a call that has not settled", async () => {
  const [a, b] = Pipe();
  let received: Promise<unknown> | undefined;
  const run = () => {
    received = assertRejects(() => a.recv(), OSError, "closed");
    b.poll(null).catch(() => {});
  };
  await assertRejects(
    () => supervise(run, 10_000, 50),
    Error,
    "pending Connection.recv(), Connection.poll()",
  );
  a.close();
  b.close();
  await received;
});

test("supervise() reports a call that a worker has left", async () => {
  const run = () => spawnTask<void>("leaveCall", {}, { patience: 50 }).result;
  await assertRejects(
    () => supervise(run, 10_000),
    Error,
    "The test left behind: pending Connection.recv() in a worker",
  );
}, { needs: ["workers"] });

test("spawn() keeps messages until the worker listens", async () => {
  const worker = spawn(ECHO);
  for (let i = 0; i < 5; i++) worker.postMessage({ i });
  for (let i = 0; i < 5; i++) assertEquals(await worker.next(), { i });
  await worker.terminate();
  await worker.exited;
}, { needs: ["workers"] });

test("spawn() transfers, and onmessage receives", async () => {
  const worker = spawn(ECHO);
  const buffer = new Uint8Array([1, 2, 3]).buffer;
  const answer = new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
  });
  worker.postMessage(buffer, [buffer]);
  assertEquals(await answer, new Uint8Array([1, 2, 3]).buffer);
  assertEquals(buffer.byteLength, 0);
  await worker.terminate();
}, { needs: ["workers", "transfer"] });

test("spawn() notices that a worker ends itself", async () => {
  const worker = spawn(ECHO);
  worker.postMessage("exit");
  await deadline(worker.exited, 10_000);
}, { needs: ["workers"] });

test("spawn() keeps an uncaught error of the worker", async () => {
  const worker = spawn(ECHO);
  worker.postMessage("throw");
  const error = await deadline(worker.error, 10_000);
  assertInstanceOf(error, Error);
  assert(error.message.includes("Thrown on request"), error.message);
  await worker.terminate();
}, { needs: ["workers"] });

test("spawn() survives a module that is not there", async () => {
  const worker = spawn(new URL("./workers/no_such_file.ts", import.meta.url));
  assertInstanceOf(await deadline(worker.error, 10_000), Error);
  await worker.terminate();
}, { needs: ["workers"] });

test("spawnTask() resolves to what the task returns", async () => {
  const args = { list: [1, "two", undefined], map: new Map([[1, NaN]]) };
  const task = spawnTask("echo", args);
  assertEquals(await task.result, args);
  await task.worker.exited;
}, { needs: ["workers"] });

test("spawnTask() rejects with what the task throws", async () => {
  const error = await assertRejects(
    () => spawnTask("raise", { message: "Too far" }).result,
    Error,
    "Too far",
  );
  assertEquals(error.name, "RangeError");
}, { needs: ["workers"] });

test("spawnTask() rejects when the worker is terminated", async () => {
  const task = spawnTask("echo", 1, { linger: true });
  assertEquals(await task.result, 1);
  const never = spawnTask("forever");
  await never.worker.ready;
  await never.worker.terminate();
  await assertRejects(() => never.result, Error, "The worker has ended");
  await task.worker.terminate();
}, { needs: ["workers"] });

test("assertEquals() compares deeply", () => {
  const cycle = () => {
    const x: { self?: unknown; n: number } = { n: 1 };
    x.self = x;
    return x;
  };
  const same: [unknown, unknown][] = [
    [NaN, NaN],
    [0, -0],
    [new Date(5), new Date(5)],
    [new Map([["a", { b: 1 }]]), new Map([["a", { b: 1 }]])],
    [new Map([[{ k: 1 }, 1]]), new Map([[{ k: 1 }, 1]])],
    [new Set([1, 2]), new Set([2, 1])],
    [new Set([{ a: 1 }]), new Set([{ a: 1 }])],
    [new Uint8Array([1, 2]), new Uint8Array([1, 2])],
    [/a/g, /a/g],
    [cycle(), cycle()],
    [[undefined], [undefined]],
    [new RangeError("x"), new RangeError("x")],
  ];
  for (const [a, b] of same) assertEquals(a, b);
  const different: [unknown, unknown][] = [
    [1, "1"],
    [null, undefined],
    [{ a: undefined }, {}],
    [[1, 2], [1, 2, 3]],
    [new Date(5), new Date(6)],
    [new Map([["a", 1]]), new Map([["a", 2]])],
    [new Set([1]), new Set([2])],
    [new Uint8Array([1, 2]), new Uint8Array([1, 3])],
    [new Uint8Array([1]), new Int8Array([1])],
    [/a/g, /a/i],
  ];
  for (const [a, b] of different) {
    assertNotEquals(a, b);
    assertThrows(() => assertEquals(a, b), AssertionError, "not equal");
  }
});

test("assertRejects() fails on a synchronous throw and on a wrong class", async () => {
  await assertRejects(
    () =>
      assertRejects(() => {
        throw new Error("Synchronous");
      }),
    AssertionError,
    "throws when expected to reject",
  );
  await assertRejects(
    () => assertRejects(() => Promise.reject(new Error("a")), TypeError),
    AssertionError,
    "TypeError",
  );
  await assertRejects(
    () => assertRejects(() => Promise.resolve()),
    AssertionError,
    "to reject",
  );
});

test("deadline() rejects in time, delay() resolves", async () => {
  await delay(1);
  assertEquals(await deadline(Promise.resolve(7), 1000), 7);
  const error = await assertRejects(
    () => deadline(new Promise<void>(() => {}), 5),
    DOMException,
  );
  assertEquals(error.name, "TimeoutError");
});

test("Random repeats with its seed", () => {
  const list = (r: Random) => Array.from({ length: 20 }, () => r.int(1000));
  assertEquals(list(new Random(1)), list(new Random(1)));
  assertNotEquals(list(new Random(1)), list(new Random(2)));
});
