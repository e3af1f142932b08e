// What each call of a queue does, on the owner's handle and on one of another thread.

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  type Connection,
  Empty,
  EOFError,
  Full,
  JoinableQueue,
  OSError,
  Pipe,
  Queue,
  ShutDown,
} from "../mod.ts";
import { liveHolds, livePorts, turn } from "../_runtime.ts";
import { test, type TestOptions } from "./_harness.ts";
import { Holder, isPending, numbers, outcome, queueTest } from "./_holder.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

const DAY = 86_400_000;

interface Fixture {
  queue<T = Any>(maxsize?: number): Promise<Queue<T>>;
  joinable<T = Any>(maxsize?: number): Promise<JoinableQueue<T>>;
}

/** A test that runs on a queue of this thread, and on a handle of one that a worker owns. */
function handleTest(
  name: string,
  fn: (fixture: Fixture) => Promise<void>,
  options: TestOptions = {},
): void {
  queueTest(`${name}, own handle`, async () => {
    const made: Queue[] = [];
    const keep = <Q>(q: Q): Promise<Q> => {
      made.push(q as Queue);
      return Promise.resolve(q);
    };
    await fn({
      queue: (maxsize) => keep(new Queue<Any>(maxsize)),
      joinable: (maxsize) => keep(new JoinableQueue<Any>(maxsize)),
    });
    for (const q of made) q.close();
    assertEquals(liveHolds(), 0);
  }, options);
  queueTest(`${name}, remote handle`, async () => {
    const owner = new Holder();
    const made: Queue[] = [];
    const make = async (maxsize = 0, joinable = false): Promise<Any> => {
      await owner.make("q", maxsize, joinable);
      const q = await owner.give<Queue>("q");
      made.push(q);
      return q;
    };
    await fn({
      queue: (maxsize) => make(maxsize),
      joinable: (maxsize) => make(maxsize, true),
    });
    for (const q of made) q.close();
    await owner.end();
  }, { needs: ["workers"] });
}

/** A promise and what became of it, looked at without waiting. */
function watch<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

// --- Making one --------------------------------------------------------------------------

test("Queue takes any integer as maxsize, and nothing else", () => {
  for (const bad of [1.5, "3", NaN, Infinity, null, {}, [], 3n, true]) {
    assertThrows(() => new Queue(bad as Any), TypeError, "maxsize");
    assertThrows(() => new JoinableQueue(bad as Any), TypeError, "maxsize");
  }
  for (const good of [0, -1, -0, 1, 2 ** 40, undefined]) {
    const q = new Queue(good);
    assertEquals(q.maxsize, good ?? 0);
    assertEquals(q.closed, false);
    q.close();
  }
});

handleTest("maxsize is what was given", async ({ queue }) => {
  for (const size of [0, -7, 3, 2 ** 40]) {
    const q = await queue(size);
    assertEquals(q.maxsize, size);
    for (let i = 0; i < 3; i++) await q.put_nowait(i);
    assertEquals(await q.full(), size === 3);
    assert(q instanceof Queue && !(q instanceof JoinableQueue));
  }
  const { maxsize, closed } = Object.getOwnPropertyDescriptors(Queue.prototype);
  assertEquals([maxsize!.set, closed!.set], [undefined, undefined]);
});

// --- Arguments ----------------------------------------------------------------------------

handleTest("durations are numbers of milliseconds", async ({ queue }) => {
  const q = await queue(1);
  const bad = [NaN, "5", {}, [], true, 3n];
  for (const timeout of bad as Any[]) {
    await assertRejects(() => q.put(1, { timeout }), TypeError, "timeout");
    await assertRejects(() => q.get({ timeout }), TypeError, "timeout");
    await assertRejects(() => q.put_many([1], { timeout }), TypeError);
    await assertRejects(() => q.get_many(1, { timeout }), TypeError);
  }
  assertEquals(await q.qsize(), 0);
  for (const timeout of [0, -1, -Infinity]) {
    await assertRejects(() => q.get({ timeout }), Empty);
    await assertRejects(() => q.get_many(3, { timeout }), Empty);
  }
  for (const timeout of [0, -1, 0.5, DAY * 100, null, undefined, Infinity]) {
    await q.put(1, { timeout });
    assertEquals(await q.get({ timeout }), 1);
  }
  await q.put(1);
  for (const timeout of [0, -1, -Infinity]) {
    await assertRejects(() => q.put(2, { timeout }), Full);
    await assertRejects(() => q.put_many([2], { timeout }), Full);
  }
  // Beyond 2^31, and for ever: still waiting, and served.
  for (const timeout of [2 ** 32, DAY * 100, null, undefined, Infinity]) {
    const put = watch(q.put(2, { timeout }));
    assert(await isPending(put));
    assertEquals(await q.get(), 1);
    await put;
    assertEquals(await q.get(), 2);
    const got = watch(q.get({ timeout }));
    assert(await isPending(got));
    await q.put(1);
    assertEquals(await got, 1);
    await q.put(1);
  }
});

handleTest(
  "block: false does not wait, whatever the timeout",
  async ({ queue }) => {
    const q = await queue(1);
    for (const timeout of [undefined, null, DAY, Infinity]) {
      await assertRejects(() => q.get({ block: false, timeout }), Empty);
      await assertRejects(
        () => q.get_many(2, { block: false, timeout }),
        Empty,
      );
    }
    await assertRejects(() => q.get_nowait(), Empty);
    await q.put(1, { block: false, timeout: DAY });
    await assertRejects(() => q.put(2, { block: false, timeout: DAY }), Full);
    await assertRejects(() => q.put_nowait(2), Full);
    assertEquals(await q.get({ block: false }), 1);
  },
);

handleTest("every error is a rejection", async ({ joinable }) => {
  const q = await joinable(1);
  const calls: [string, ...Any[]][] = [
    ["put", () => {}],
    ["put", 1, 5],
    ["put", 1, { timeout: "1" }],
    ["put", 1, { signal: {} }],
    ["put", 1, { transfer: 5 }],
    ["put_nowait", Symbol()],
    ["get", 5],
    ["get", { timeout: "1" }],
    ["get_many"],
    ["get_many", "1"],
    ["get_many", 1.5],
    ["get_many", NaN],
    ["get_many", Infinity],
    ["get_many", 0],
    ["get_many", -1],
    ["get_many", 1, { timeout: "1" }],
    ["put_many"],
    ["put_many", 5],
    ["put_many", null],
    ["put_many", {}],
    ["put_many", [1], 7],
    ["put_many", [1], { timeout: NaN }],
    ["join_thread"],
    ["join", { signal: 5 }],
    ["shutdown", 5],
    ["shutdown", true],
    ["task_done"],
    ["get_nowait"],
  ];
  for (const [name, ...args] of calls) {
    const promise = (q as Any)[name](...args);
    assertInstanceOf(promise, Promise, name);
    const error = await promise.then(() => null, (error: unknown) => error);
    assert(error instanceof Error, `${name}(${args.map(String)})`);
  }
  for (const max of ["1", 1.5, NaN, Infinity, undefined, null]) {
    await assertRejects(() => q.get_many(max as Any), TypeError, "integer");
  }
  for (const max of [0, -1]) {
    await assertRejects(() => q.get_many(max), RangeError, "max");
  }
  assertEquals(await q.qsize(), 0);
  await q.join();
});

handleTest("null and undefined options are no options", async ({ queue }) => {
  const q = await queue();
  await q.put(1, null as Any);
  await q.put(2, undefined);
  await q.put(3, {});
  await q.put_many([4, 5], null as Any);
  await q.put(6, { signal: undefined, transfer: undefined });
  await q.put(7, { signal: null as Any });
  assertEquals(await q.get(null as Any), 1);
  assertEquals(await q.get(undefined), 2);
  assertEquals(await q.get_many(2, null as Any), [3, 4]);
  assertEquals(await q.get_many(20, {}), [5, 6, 7]);
});

handleTest("closed is checked first, then arguments", async ({ joinable }) => {
  const q = await joinable(1);
  await q.put(1);
  const aborted = AbortSignal.abort(new Error("aborted"));
  await assertRejects(
    () => q.put(1, { transfer: 5 as Any, signal: aborted }),
    TypeError,
    "transfer",
  );
  q.close();
  q.close();
  assertEquals(q.closed, true);
  const closed = (promise: Promise<unknown>) =>
    assertRejects(() => promise, OSError, "queue is closed");
  await closed(q.put(() => {}, { timeout: "x" as Any, signal: aborted }));
  await closed(q.get({ timeout: "x" as Any, signal: aborted }));
  await closed(q.put_nowait(1));
  await closed(q.get_nowait());
  await closed(q.put_many(5 as Any));
  await closed(q.get_many("x" as Any));
  await closed(q.shutdown());
  assertEquals(
    await outcome(q[Symbol.asyncIterator]().next()),
    "OSError: Cannot get: queue is closed",
  );
  // These still answer.
  assertEquals(await q.qsize(), 1);
  assertEquals(await q.empty(), false);
  assertEquals(await q.full(), true);
  await q.task_done();
  await q.join();
  await assertRejects(() => q.task_done(), RangeError, "called too many times");
  await q.join_thread();
  await q.join_thread();
});

// --- Items ---------------------------------------------------------------------------------

handleTest(
  "items arrive as structuredClone would give them",
  async ({ queue }) => {
    const q = await queue();
    const cycle: Any = { name: "cycle", list: [] };
    cycle.self = cycle;
    cycle.list.push(cycle, cycle.list);
    const shared = { x: 1 };
    const holes = [1, , 3]; // deno-lint-ignore no-sparse-arrays
    const items: Any[] = [
      undefined,
      null,
      NaN,
      -0,
      0,
      "",
      false,
      10n ** 30n,
      new Map<Any, Any>([[1, new Set(["a"])], [shared, shared]]),
      new Date(86_400_000),
      /x+/gi,
      new Uint16Array([1, 2, 3]),
      new Uint8Array([1, 2, 3]).subarray(1),
      new DataView(new ArrayBuffer(3), 1),
      new ArrayBuffer(5),
      new RangeError("range"),
      { a: undefined, b: [undefined, null], c: { d: NaN } },
      Object.assign(["x"], { extra: 1 }),
      "x".repeat(200_000),
      Object.create(null),
      { ["__proto__"]: 1 },
      { a: 1, [Symbol("s")]: () => {}, b: { [Symbol("t")]: 1 } },
    ];
    for (const item of items) {
      await q.put(item);
      assertEquals(await q.get(), structuredClone(item));
    }
    // A burst takes another way.
    const puts = items.map((item) => q.put(item));
    for (const item of items) {
      assertEquals(
        await q.get(),
        structuredClone(item),
      );
    }
    await Promise.all(puts);
    await q.put(holes);
    const got = await q.get();
    assert(!(1 in got) && got.length === 3);
    for (const put of [() => q.put(cycle), () => q.put_many([0, cycle])]) {
      await put();
      while (await q.qsize() > 1) await q.get();
      const back = await q.get();
      assertStrictEquals(back.self, back);
      assertStrictEquals(back.list[0], back);
      assertStrictEquals(back.list[1], back.list);
    }
    await q.put([shared, shared]);
    const [one, two] = await q.get();
    assertStrictEquals(one, two);
    await q.put(shared);
    assert(await q.get() !== shared);
  },
);

handleTest(
  "what arrives is the value as it was at the call",
  async ({ queue }) => {
    const q = await queue(2);
    const value: Any = { n: 0, deep: [{ n: 0 }], map: new Map([["n", 0]]) };
    const set = (n: number) => {
      value.n = value.deep[0].n = n;
      value.map.set("n", n);
    };
    const list: Any[] = [{ n: 5 }, value, { n: 7 }];
    const puts: Promise<void>[] = [];
    for (let i = 0; i < 5; i++) {
      set(i); // two have room, three wait
      puts.push(q.put(value));
    }
    set(6);
    const collection = new Set([{ n: 8 }, { n: 9 }]);
    const many = [q.put_many(list), q.put_many(collection)];
    list[0].n = list[2].n = 100;
    list.length = 1;
    for (const item of collection) item.n = 100;
    collection.clear();
    set(100);
    for (let i = 0; i < 5; i++) {
      assertEquals(await q.get(), {
        n: i,
        deep: [{ n: i }],
        map: new Map([["n", i]]),
      });
    }
    assertEquals(await q.get(), { n: 5 });
    assertEquals((await q.get()).n, 6);
    for (const n of [7, 8, 9]) assertEquals(await q.get(), { n });
    await Promise.all([...puts, ...many]);
    const there = new Set([{ n: 0 }, { n: 1 }]);
    const put = q.put_many(there); // there is room
    for (const item of there) item.n = 100;
    await put;
    assertEquals([await q.get(), await q.get()], [{ n: 0 }, { n: 1 }]);
  },
);

handleTest(
  "put_many puts a list as it is now, though a getter in it empties it",
  async ({ queue }) => {
    const q = await queue(0);
    const list: Any[] = [0, 1, 2];
    list[0] = {
      get x() {
        return list.length = 0;
      },
    };
    await q.put_many(list);
    assertEquals(await q.get_many(9), [{ x: 0 }, 1, 2]);
  },
);

handleTest(
  "what put_many puts beside an endpoint is as it was at the call, too",
  async ({ queue }) => {
    const q = await queue(1);
    await q.put("first");
    const [a, b] = Pipe<string>();
    const item: Any = { b, n: 0, deep: [0] };
    const put = q.put_many(["second", item, "last"]);
    item.n = item.deep[0] = 100;
    assertEquals([await q.get(), await q.get()], ["first", "second"]);
    const { b: end, ...rest } = await q.get();
    assertEquals(rest, { n: 0, deep: [0] });
    assertEquals(await q.get(), "last");
    await put;
    a.close();
    end.close();
  },
  { needs: ["transfer"] },
);

handleTest(
  "an item that cannot be cloned rejects its own put",
  async ({ joinable }) => {
    const q = await joinable(2);
    const bad: Any[] = [
      () => {},
      Symbol("x"),
      { deep: [() => {}] },
      new WeakMap(),
      Promise.resolve(),
      new Map([[1, () => {}]]),
      {
        get x() {
          throw new DOMException("no", "DataCloneError");
        },
      },
    ];
    for (const item of bad) {
      await assertRejects(() => q.put(item), DOMException);
      await assertRejects(() => q.put_nowait(item), DOMException);
    }
    assertEquals(await q.qsize(), 0);
    await q.join(); // none counts as unfinished
    const puts = [
      q.put(1),
      outcome(q.put(bad[0])),
      q.put(2),
      outcome(q.put(bad[2])), // full: it would have to wait
      q.put(3),
    ];
    const results = Promise.all(puts);
    assertEquals(await q.get_many(1), [1]);
    assertEquals(await q.get(), 2);
    assertEquals(await q.get(), 3);
    const [a, b, c, d, e] = await results as Any[];
    assertEquals([a, c, e], [undefined, undefined, undefined]);
    assert(b.startsWith("DataCloneError") && d.startsWith("DataCloneError"));
    assertEquals(await q.qsize(), 0);
    for (let i = 0; i < 3; i++) await q.task_done();
    await q.join();
  },
  { needs: ["realm"] },
);

handleTest("transfer moves parts of an item", async ({ queue }) => {
  const q = await queue(1);
  const { port1, port2 } = new MessageChannel();
  const buffer = new Uint8Array([1, 2, 3]).buffer;
  await q.put({ buffer, n: 1 }, { transfer: [buffer] });
  assertEquals(buffer.byteLength, 0);
  assertEquals(await q.get(), {
    buffer: new Uint8Array([1, 2, 3]).buffer,
    n: 1,
  });
  await q.put({ port: port2 }, { transfer: [port2] });
  const { port } = await q.get();
  const message = new Promise((done) => {
    port1.onmessage = (event) => done(event.data);
  });
  port.postMessage("through");
  assertEquals(await message, "through");
  port1.close();
  port.close();
  await q.put(1);
  const late = new ArrayBuffer(4);
  const waiting = q.put([late], { transfer: [late] });
  assertEquals(await q.get(), 1);
  await waiting;
  assertEquals(await q.get(), [new ArrayBuffer(4)]);
  const kept = new ArrayBuffer(4);
  await assertRejects(
    () => q.put([kept, () => {}], { transfer: [kept] }),
    DOMException,
  );
  assertEquals(kept.byteLength, 4);
  await assertRejects(
    () => q.put([kept], { transfer: [kept, kept] }),
    DOMException,
  );
  await q.put([kept], { transfer: [] });
  assertEquals(kept.byteLength, 4);
  assertEquals(await q.get(), [kept]);
}, { needs: ["transfer"] });

// --- Order and size ---------------------------------------------------------------------------

handleTest("items come out in the order they were put", async ({ queue }) => {
  const q = await queue();
  const puts = [
    q.put(0),
    q.put(1),
    q.put_many([2, 3, 4]),
    q.put(new Map([[5, 5]])),
    q.put(6),
    q.put_many([7, 8]),
    q.put("x".repeat(100_000)),
    q.put(9),
  ];
  const got: Any[] = [];
  for (let i = 0; i < 11; i++) got.push(await q.get());
  await Promise.all(puts);
  assertEquals(
    got.map((x) => typeof x === "object" ? 5 : typeof x === "string" ? "x" : x),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, "x", 9],
  );
});

handleTest("qsize, empty and full are exact", async ({ queue }) => {
  const q = await queue(3);
  const state = async () => [await q.qsize(), await q.empty(), await q.full()];
  assertEquals(await state(), [0, true, false]);
  for (
    const expected of [[1, false, false], [2, false, false], [3, false, true]]
  ) {
    await q.put("x");
    assertEquals(await state(), expected);
  }
  const waiting = q.put("y");
  assertEquals(await state(), [3, false, true]);
  await q.get();
  await waiting;
  assertEquals(await state(), [3, false, true]);
  assertEquals((await q.get_many(10)).length, 3);
  assertEquals(await state(), [0, true, false]);
  const pending = q.get();
  assertEquals(await state(), [0, true, false]);
  await q.put(1);
  await pending;
  assertEquals(await state(), [0, true, false]);
  await q.put(1);
  q.close();
  assertEquals(await state(), [1, false, false]);
});

handleTest("a million items cost what one costs", async ({ queue }) => {
  const q = await queue();
  const few = numbers(0, 2000);
  for (let round = 0; round < 5; round++) {
    await q.put_many(few);
    let next = 0;
    while (next < few.length) {
      for (const x of await q.get_many(150)) assertEquals(x, next++);
    }
  }
  await assertRejects(() => q.get_nowait(), Empty);
});

// --- Waiting -----------------------------------------------------------------------------------

handleTest(
  "waiting gets are served in the order of the calls",
  async ({ queue }) => {
    const q = await queue();
    const gets = [q.get(), q.get_many(2), q.get({ timeout: DAY }), q.get()];
    await q.put(0);
    assertEquals(await gets[0], 0);
    await q.put_many([1, 2, 3, 4]);
    const rest = (await Promise.all(gets)).flat();
    while (!(await q.empty())) rest.push(await q.get());
    assertEquals(rest, [0, 1, 2, 3, 4]);
  },
);

handleTest(
  "waiting puts are served in the order of the calls",
  async ({ queue }) => {
    const q = await queue(1);
    const done: number[] = [];
    const puts = numbers(0, 6).map((i) => {
      const put = i % 2 ? q.put(i) : q.put(i, { timeout: DAY });
      return put.then(() => void done.push(i));
    });
    // One that does not wait does not overtake those that do.
    await assertRejects(() => q.put_nowait("x"), Full);
    for (let i = 0; i < 6; i++) {
      assertEquals(await q.get(), i);
      await puts[Math.min(i + 1, 5)];
      assert(await q.qsize() <= 1);
    }
    assertEquals(done, numbers(0, 6));
  },
);

handleTest("a get that times out loses nothing", async ({ queue }) => {
  const q = await queue();
  for (let round = 0; round < 20; round++) {
    const gets = [0, 1, 2].map((timeout) => outcome(q.get({ timeout })));
    if (round % 2) await new Promise((done) => setTimeout(done, 1));
    await q.put(round);
    const got = (await Promise.all(gets)).filter((x) =>
      x !== "Empty: Cannot get: the queue is empty"
    );
    if (got.length === 0) got.push(await q.get());
    assertEquals(got, [round]);
    await assertRejects(() => q.get_nowait(), Empty);
  }
});

handleTest("an aborted get loses nothing", async ({ queue }) => {
  const q = await queue();
  for (let round = 0; round < 20; round++) {
    const stop = new AbortController();
    const got = watch(q.get({ signal: stop.signal }));
    const many = watch(q.get_many(3, { signal: stop.signal }));
    if (round % 3 === 0) await q.qsize();
    const put = q.put(round);
    if (round % 3 === 1) await put;
    stop.abort(new Error("stop"));
    await put;
    const results = [await outcome(got), await outcome(many)].flat();
    const items = results.filter((x) => typeof x === "number");
    for (const x of results) if (x !== round) assertEquals(x, "Error: stop");
    if (items.length === 0) assertEquals(await q.get(), round);
    else assertEquals(items, [round]);
    await assertRejects(() => q.get_nowait(), Empty);
  }
});

handleTest(
  "a put that gives up rejects only if it was not stored",
  async ({ queue }) => {
    const q = await queue(1);
    for (let round = 0; round < 20; round++) {
      await q.put("first");
      const stop = new AbortController();
      const puts = [
        outcome(q.put("timeout", { timeout: round % 4 })),
        outcome(q.put("abort", { signal: stop.signal })),
      ];
      if (round % 3 === 0) await Promise.race(puts);
      const first = q.get();
      if (round % 3 === 1) await first;
      stop.abort(new Error("stop"));
      const items = [await first];
      const rest = (async () => {
        while (true) {
          const x = await q.get();
          if (x === "end") return;
          items.push(x);
        }
      })();
      const [timeout, abort] = await Promise.all(puts);
      await q.put("end");
      await rest;
      const expected = ["first"];
      if (timeout === undefined) expected.push("timeout");
      else assertEquals(timeout, "Full: Cannot put: the queue is full");
      if (abort === undefined) expected.push("abort");
      else assertEquals(abort, "Error: stop");
      assertEquals(items, expected);
    }
  },
);

handleTest(
  "a put whose item aborts it while it is cloned rejects",
  async ({ queue }) => {
    const q = await queue(1);
    await q.put(1);
    const stop = new AbortController();
    const item = {
      get id() {
        stop.abort("Mine");
        return 2;
      },
    };
    const put = q.put(item, { signal: stop.signal });
    assertEquals(await put.catch((reason) => reason), "Mine");
    assertEquals(await q.get(), 1);
    assertEquals(await q.qsize(), 0);
  },
);

handleTest(
  "an aborted signal rejects before anything happens",
  async ({ joinable }) => {
    const q = await joinable(2);
    await q.put(1);
    const reason = { any: "reason" };
    const signal = AbortSignal.abort(reason);
    let read = 0;
    function* items() {
      read++;
      yield 1;
    }
    const { port1, port2 } = new MessageChannel();
    const buffer = new ArrayBuffer(2);
    const calls = [
      q.put(2, { signal }),
      q.put(buffer, { signal, transfer: [buffer], block: false }),
      q.get({ signal }),
      q.get({ signal, block: false }),
      q.get_many(3, { signal }),
      q.put_many(items(), { signal }),
      q.put_many([], { signal }),
      q.join({ signal }),
    ];
    for (const call of calls) {
      assertStrictEquals(
        await call.then(() => 0, (error: unknown) => error),
        reason,
      );
    }
    assertEquals([read, buffer.byteLength, await q.qsize()], [0, 2, 1]);
    const other = { other: "reason" };
    q.close();
    assertStrictEquals(
      await q.join_thread({ signal: AbortSignal.abort(other) })
        .then(() => 0, (error: unknown) => error),
      other,
    );
    port1.close();
    port2.close();
  },
  { needs: ["transfer"] },
);

/** Counts the listeners of a signal. */
function counted(): {
  signal: AbortSignal;
  count: () => number;
  abort: () => void;
} {
  const stop = new AbortController();
  const { signal } = stop;
  let count = 0;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Any[]) => {
    count++;
    (add as Any)(...args);
  };
  signal.removeEventListener = (...args: Any[]) => {
    count--;
    (remove as Any)(...args);
  };
  return { signal, count: () => count, abort: () => stop.abort() };
}

handleTest(
  "nothing listens to a signal once the call has ended",
  async ({ joinable }) => {
    const q = await joinable(1);
    const { signal, count, abort } = counted();
    await q.put(1, { signal });
    assertEquals(await q.get({ signal }), 1);
    await assertRejects(() => q.get({ signal, timeout: 1 }), Empty);
    await assertRejects(() => q.get({ signal, block: false }), Empty);
    const got = q.get({ signal });
    await q.put(1);
    await got;
    await q.put(1);
    await assertRejects(() => q.put(2, { signal, timeout: 1 }), Full);
    const put = q.put(2, { signal });
    await q.get();
    await put;
    const many = q.put_many([3, 4, 5], { signal });
    while (await q.get_many(2, { signal }).then(([x]) => x !== 5));
    await many;
    const join = q.join({ signal });
    for (let i = 0; i < 7; i++) await q.task_done().catch(() => {});
    await join;
    assertEquals(count(), 0);
    const pending = [q.get({ signal }), q.get_many(2, { signal })].map(outcome);
    abort();
    for (const result of await Promise.all(pending)) {
      assert(String(result).startsWith("AbortError"));
    }
    assertEquals(count(), 0);
  },
);

// --- Many at once --------------------------------------------------------------------------------

handleTest("get_many takes what is there, up to max", async ({ queue }) => {
  const q = await queue();
  await q.put_many(numbers(0, 10));
  assertEquals(await q.get_many(1), [0]);
  assertEquals(await q.get_many(4), [1, 2, 3, 4]);
  assertEquals(await q.get(), 5); // copies of the next are here now
  assertEquals(await q.get_many(2), [6, 7]);
  assertEquals(await q.get_many(Number.MAX_SAFE_INTEGER), [8, 9]);
  await assertRejects(() => q.get_many(5, { block: false }), Empty);
  await assertRejects(() => q.get_many(5, { timeout: 1 }), Empty);
  const waiting = q.get_many(5);
  assert(await isPending(waiting));
  await q.put("x");
  assertEquals(await waiting, ["x"]);
  // Copies may be here when another handle, or call, takes some.
  await q.put_many(numbers(0, 100));
  const got: number[] = [await q.get()];
  while (got.length < 100) got.push(...await q.get_many(1 + got.length % 7));
  assertEquals(got, numbers(0, 100));
});

handleTest(
  "get_many takes items with endpoints among others",
  async ({ queue }) => {
    const q = await queue();
    const [a, b] = Pipe<string>();
    const [c, d] = Pipe<string>();
    await q.put_many([0, { b }, 2, [d], 4]);
    assert(b.closed && d.closed);
    const [zero, one, two, three, four] = await q.get_many(9) as Any[];
    assertEquals([zero, two, four], [0, 2, 4]);
    await a.send("to b");
    await c.send("to d");
    assertEquals([await one.b.recv(), await three[0].recv()], ["to b", "to d"]);
    for (const conn of [a, c, one.b, three[0]]) conn.close();
    assertEquals(await q.qsize(), 0);
  },
  { needs: ["transfer"] },
);

handleTest(
  "calls that are not awaited put in their order, also beside endpoints",
  async ({ queue }) => {
    const q = await queue(1);
    const [a, b] = Pipe();
    const [c, d] = Pipe();
    const puts = [
      q.put(0),
      q.put([b]),
      q.put_many([2, 3]),
      q.put(4),
      q.put_many([5, [d], 7]),
      q.put(8),
    ];
    const got: Any[] = [];
    while (got.length < 9) got.push(await q.get());
    await Promise.all(puts);
    assertEquals(got.filter((x) => !Array.isArray(x)), [0, 2, 3, 4, 5, 7, 8]);
    for (const at of [1, 6]) got[at][0].close();
    a.close();
    c.close();
  },
  { needs: ["transfer"] },
);

handleTest(
  "put_many that finds an endpoint closed leaves what is before it, and nothing of what follows",
  async ({ queue }) => {
    const q = await queue(1);
    const [a, b] = Pipe();
    await q.put(0);
    const many = outcome(q.put_many([1, 2, [b], 4, [a], 6]));
    const put = q.put(7);
    b.close();
    const got: Any[] = [];
    for (let i = 0; i < 4; i++) got.push(await q.get());
    assertEquals(got, [0, 1, 2, 7]);
    assertStringIncludes(`${await many}`, "OSError");
    await put;
    assertEquals([a.closed, await q.qsize()], [false, 0]);
    a.close();
  },
  { needs: ["transfer"] },
);

handleTest(
  "put_many of endpoints that does not wait puts what there is room for",
  async ({ queue }) => {
    const at = { timeout: 0 };
    const q = await queue();
    const [a, b] = Pipe();
    await q.put_many([1, [a], 2], at);
    await q.put_many([[b]], at);
    const got: Any[] = [];
    for (let i = 0; i < 4; i++) got.push(await q.get());
    assertEquals([got[0], got[2]], [1, 2]);
    const bounded = await queue(2);
    const ends = [got[1][0], got[3][0]];
    const many = await outcome(
      bounded.put_many([[ends[0]], 3, [ends[1]]], at),
    );
    assertStringIncludes(`${many}`, "Full");
    assertEquals([ends[0].closed, ends[1].closed], [true, false]);
    const [first] = await bounded.get() as Any;
    assertEquals(await bounded.get(), 3);
    first.close();
    ends[1].close();
  },
  { needs: ["transfer"] },
);

handleTest(
  "put_many of endpoints that is given up leaves what is before it",
  async ({ queue }) => {
    const q = await queue(1);
    const [a, b] = Pipe();
    const stop = new AbortController();
    const { signal } = stop;
    const many = outcome(q.put_many([0, 1, [a], 3, [b]], { signal }));
    assertEquals([await q.get(), await q.get()], [0, 1]);
    const end = (await q.get() as Any)[0];
    stop.abort(new Error("enough"));
    assertEquals(await many, "Error: enough");
    const left: Any[] = [];
    while (!(await q.empty())) left.push(await q.get());
    assert(left.length === 0 || left.length === 1 && left[0] === 3);
    assertEquals([a.closed, b.closed], [true, false]);
    end.close();
    b.close();
  },
  { needs: ["transfer"] },
);

queueTest(
  "a refused put of a closed endpoint leaves no place behind",
  async () => {
    const owner = new Holder();
    await owner.make("q", 1);
    const q = await owner.give<Queue<Any>>("q");
    const [a, b] = Pipe();
    await q.put(0);
    const put = outcome(q.put([b]));
    b.close();
    assertEquals(await q.get(), 0);
    assertStringIncludes(`${await put}`, "OSError");
    assertEquals(await q.qsize(), 0);
    // Nor does a close that waits for such a put wait for ever.
    await q.put(0);
    const late = outcome(q.put([a]));
    a.close();
    q.close();
    const joined = q.join_thread();
    assertEquals(await owner.call("q", "get"), 0);
    assertStringIncludes(`${await late}`, "OSError");
    await joined;
    await owner.end();
  },
  { needs: ["workers"] },
);

handleTest("put_many puts any iterable in order", async ({ queue }) => {
  const q = await queue();
  await q.put_many([]);
  await q.put_many(new Set<Any>([1, 2]));
  await q.put_many("ab");
  await q.put_many(new Map([[1, 2]]));
  await q.put_many(
    new class extends Array {
      override [Symbol.iterator](): ArrayIterator<string> {
        return ["own"].values();
      }
    }(3),
  );
  await q.put_many(new Uint8Array([7, 8]));
  await q.put_many((function* () {
    yield 9;
  })());
  await q.put_many([, undefined] as Any[]); // deno-lint-ignore no-sparse-arrays
  assertEquals(await q.get_many(100), [
    1,
    2,
    "a",
    "b",
    [1, 2],
    "own",
    7,
    8,
    9,
    undefined,
    undefined,
  ]);
});

handleTest("put_many reads an iterable as there is room", async ({ queue }) => {
  const q = await queue(2);
  let read = 0;
  let ended = false;
  function* items() {
    try {
      while (true) yield read++;
    } finally {
      ended = true;
    }
  }
  const stop = new AbortController();
  const put = outcome(q.put_many(items(), { signal: stop.signal }));
  for (let i = 0; i < 20; i++) {
    assertEquals(await q.get(), i);
    assert(read <= i + 4, `${read} read after ${i}`);
  }
  stop.abort(new Error("stop"));
  assertEquals(await put, "Error: stop");
  assert(ended);
  const rest = await q.get_many(10, { timeout: 0 }).catch(() => []);
  assertEquals(rest, numbers(20, 20 + rest.length));
});

handleTest(
  "put_many of an endless iterable ends in time, also without bound",
  async ({ queue }) => {
    const q = await queue(0);
    let ended = 0;
    function* items() {
      try {
        for (let i = 0;; i++) yield i;
      } finally {
        ended++;
      }
    }
    const ends = async (options: Any, why: string) => {
      assertEquals(await outcome(q.put_many(items(), options)), why);
      const there: Any[] = [];
      while (await q.qsize() > 0) {
        for (const item of await q.get_many(1e6)) there.push(item);
      }
      assertEquals(there, numbers(0, there.length));
    };
    await ends({ timeout: 1 }, "Full: Cannot put: the queue is full");
    const stop = new AbortController();
    setTimeout(() => stop.abort(new Error("stop")), 1);
    await ends({ signal: stop.signal }, "Error: stop");
    assertEquals(ended, 2);
  },
);

handleTest(
  "put_many of a long iterable that does not wait puts all that there is room for",
  async ({ queue }) => {
    const q = await queue(0);
    function* items() {
      yield* numbers(0, 3000);
    }
    await q.put_many(items(), { timeout: 0 });
    assertEquals(await q.qsize(), 3000);
  },
);

handleTest(
  "put_many that fails leaves what is before it",
  async ({ queue }) => {
    const q = await queue(3);
    const drain = () => q.get_many(100, { block: false }).catch(() => []);
    assertEquals(
      await outcome(q.put_many([1, 2, 3, 4, 5], { timeout: 5 })),
      "Full: Cannot put: the queue is full",
    );
    assertEquals(await drain(), [1, 2, 3]);
    await assertRejects(() => q.put_many(numbers(0, 5), { timeout: 0 }), Full);
    assertEquals(await drain(), [0, 1, 2]);
    const bad: Any[] = [1, 2, () => {}, 4];
    await assertRejects(() => q.put_many(bad), DOMException);
    assertEquals(await drain(), [1, 2]);
    await assertRejects(() => q.put_many(new Set(bad)), DOMException);
    assertEquals(await drain(), [1, 2]);
    const broken = function* () {
      yield 1;
      throw new Error("broken");
    };
    assertEquals(await outcome(q.put_many(broken())), "Error: broken");
    assertEquals(await drain(), [1]);
    const stop = new AbortController();
    const aborted = outcome(q.put_many(numbers(0, 9), { signal: stop.signal }));
    assertEquals([await q.get(), await q.get()], [0, 1]);
    stop.abort(new Error("stop"));
    assertEquals(await aborted, "Error: stop");
    const rest = await drain();
    assertEquals(rest, numbers(2, 2 + rest.length));
    // Aborted between two items, when nothing waits.
    const inside = new AbortController();
    const items = function* () {
      yield 1;
      inside.abort(new Error("inside"));
      yield 2;
      yield 3;
    };
    const put = outcome(q.put_many(items(), { signal: inside.signal }));
    assertEquals(await put, "Error: inside");
    assertEquals((await drain())[0], 1);
    const shut = outcome(q.put_many(numbers(0, 9)));
    await q.qsize();
    await q.shutdown();
    assert(String(await shut).startsWith("ShutDown"));
    const left = await drain();
    assertEquals(left, numbers(0, left.length));
  },
  { needs: ["realm"] },
);

// --- The end ----------------------------------------------------------------------------------------

handleTest(
  "close() rejects gets that wait, and delivers puts that wait",
  async ({ queue }) => {
    const q = await queue(1);
    const gets = [q.get(), q.get({ timeout: DAY }), q.get_many(2)].map(outcome);
    assert(await isPending(gets[0]!));
    q.close();
    for (const result of await Promise.all(gets)) {
      assertEquals(result, "OSError: Cannot get: the queue is closed");
    }
    await q.join_thread();
  },
);

queueTest("Queue delivers puts that were called before close()", async () => {
  const owner = new Holder();
  await owner.make("q", 1);
  const q = await owner.give<Queue<Any>>("q");
  await q.put(0);
  const [a, b] = Pipe();
  const puts = [q.put(1), q.put_many([2, 3]), q.put({ b }), q.put(4)];
  q.close();
  const joined = watch(q.join_thread());
  assert(await isPending(joined));
  const got: Any[] = [];
  for (let i = 0; i < 3; i++) got.push(await owner.call("q", "get"));
  while (got.length < 6) {
    await owner.keep("x", "q", "get");
    got.push(await owner.give<Any>("x"));
  }
  await Promise.all(puts);
  await joined;
  const plain = got.map((x) => typeof x === "number" ? x : "conn");
  assertEquals(plain, [0, 1, 2, 3, "conn", 4]);
  for (const x of got) x.b?.close();
  a.close();
  await owner.end();
}, { needs: ["workers"] });

handleTest(
  "puts that nobody can make room for reject when the last handle closes",
  async ({ queue }) => {
    const q = await queue(1);
    const before = liveHolds();
    await q.put(1);
    const put = outcome(q.put(2));
    const many = outcome(q.put_many([3, 4]));
    q.close();
    if (liveHolds() > before) {
      // Another handle is open still, at the owner: the fixture's end closes it.
      put.then(() => {});
      return;
    }
    for (const result of [await put, await many]) {
      assertEquals(result, "OSError: Cannot put: the queue is closed");
    }
    await q.join_thread();
  },
);

queueTest(
  "a put whose item closes the handle ends when there is room",
  async () => {
    const owner = new Holder();
    await owner.make("q", 1);
    const q = await owner.give<Queue<Any>>("q");
    await q.put(0);
    const put = q.put({
      get x() {
        q.close();
        return 1;
      },
    });
    await turn();
    assertEquals(await owner.call("q", "get"), 0);
    assertEquals(await owner.call("q", "get"), { x: 1 });
    await put;
    await q.join_thread();
    await owner.end();
  },
  { needs: ["workers"] },
);

queueTest(
  "join_thread() resolves also after a put_many that ran on when the last handle closed",
  async () => {
    const owner = new Holder();
    for (let round = 0; round < 5; round++) {
      await owner.make("q", 0);
      const q = await owner.give<Queue<Any>>("q");
      await owner.call("q", "close");
      const put = outcome(q.put_many((function* () {
        for (let i = 0; i < 3; i++) yield i;
      })()));
      q.close();
      await put;
      // By now the owner has said what it says of itself.
      for (let i = 0; i < 5 * round; i++) await turn();
      await q.join_thread();
    }
    await owner.end();
  },
  { needs: ["workers"] },
);

handleTest(
  "join_thread() needs close(), and then resolves",
  async ({ queue }) => {
    const q = await queue();
    await assertRejects(() => q.join_thread(), OSError, "not closed");
    for (let i = 0; i < 10; i++) q.put(i);
    q.close();
    await q.join_thread();
    assertEquals(await q.qsize(), 10);
  },
);

handleTest(
  "cancel_join_thread() may be called at any time",
  async ({ queue }) => {
    const before = liveHolds();
    const q = await queue(1);
    q.cancel_join_thread();
    await q.put(1);
    const puts = [watch(q.put(2)), watch(q.put(3, { timeout: DAY }))];
    assertEquals(liveHolds(), before);
    assert(await isPending(puts[0]!));
    q.close();
    await q.join_thread();
    const other = await queue(1);
    await other.put(1);
    watch(other.put(2));
    other.cancel_join_thread();
    assertEquals(liveHolds(), before);
    other.close();
    await other.join_thread();
  },
);

handleTest("Queue can be disposed of", async ({ queue }) => {
  const q = await queue();
  q[Symbol.dispose]?.();
  assert(q.closed);
  const other = await queue();
  await other[Symbol.asyncDispose]?.();
  assert(other.closed);
});

handleTest("shutdown() lets gets finish and puts fail", async ({ queue }) => {
  const q = await queue(3);
  await q.put_many([1, 2, 3]);
  const puts = [q.put(4), q.put(5, { timeout: DAY })].map(outcome);
  await q.shutdown();
  for (const result of await Promise.all(puts)) {
    assertEquals(result, "ShutDown: Cannot put: the queue has been shut down");
  }
  await assertRejects(() => q.put(6), ShutDown);
  await assertRejects(() => q.put_nowait(6), ShutDown);
  await assertRejects(() => q.put_many([6]), ShutDown);
  assertEquals(await q.get(), 1);
  assertEquals(await q.get_nowait(), 2);
  await q.shutdown();
  assertEquals(await q.get_many(5), [3]);
  await assertRejects(() => q.get(), ShutDown);
  await assertRejects(() => q.get_nowait(), ShutDown);
  await assertRejects(() => q.get({ timeout: 1 }), ShutDown);
  await assertRejects(() => q.get_many(2), ShutDown);
  await q.shutdown({ immediate: true });
  await assertRejects(() => q.get(), ShutDown);
  assertEquals(await q.qsize(), 0);
});

handleTest(
  "shutdown() ends gets that wait, and iteration",
  async ({ queue }) => {
    const q = await queue();
    const gets = [q.get(), q.get({ timeout: DAY }), q.get_many(2)].map(outcome);
    const iterated = (async () => {
      const got = [];
      for await (const x of q) got.push(x);
      return got;
    })();
    await q.qsize();
    await q.shutdown();
    for (const result of await Promise.all(gets)) {
      assertEquals(
        result,
        "ShutDown: Cannot get: the queue has been shut down",
      );
    }
    assertEquals(await iterated, []);
  },
);

handleTest(
  "shutdown({ immediate }) drops the items and counts them as done",
  async ({ joinable }) => {
    const q = await joinable();
    const [a, b] = Pipe();
    await q.put_many([1, 2, 3]);
    await q.put([b]);
    await q.get();
    const join = q.join();
    await q.shutdown({ immediate: true });
    assertEquals(await q.qsize(), 0);
    await assertRejects(() => q.get(), ShutDown);
    await assertRejects(() => q.get_nowait(), ShutDown);
    assert(await isPending(join)); // the one that was got
    await q.task_done();
    await join;
    await assertRejects(() => q.task_done(), RangeError);
    await assertRejects(() => a.recv(), Error); // what was dropped is closed
    a.close();
  },
);

handleTest(
  "for await that is ended from outside while it waits takes nothing more",
  async ({ queue }) => {
    const q = await queue();
    const loop = q[Symbol.asyncIterator]();
    const next = loop.next();
    const ended = loop.return();
    assertEquals(await next, { done: true, value: undefined });
    assertEquals(await ended, { done: true, value: undefined });
    await q.put(1);
    assertEquals(await q.get(), 1);
  },
);

handleTest("for await gets until the queue is shut down", async ({ queue }) => {
  const q = await queue();
  await q.put_many([1, undefined, 3]);
  for await (const x of q) {
    assertEquals(x, 1);
    break;
  }
  await q.shutdown();
  const got = [];
  for await (const x of q) got.push(x);
  assertEquals(got, [undefined, 3]);
  for await (const _ of q) throw new Error("There is no more");
});

handleTest("task_done() and join() count items", async ({ joinable }) => {
  const q = await joinable(5);
  assertInstanceOf(q, JoinableQueue);
  await q.join();
  const error = await assertRejects(() => q.task_done(), RangeError);
  assert(
    (error as Error).message.includes("task_done() called too many times"),
  );
  await q.put_many([1, 2]);
  const joins = [q.join(), q.join()];
  await q.task_done(); // as in Python, not tied to a get
  await q.get();
  assert(await isPending(joins[0]!));
  const stop = new AbortController();
  const aborted = outcome(q.join({ signal: stop.signal }));
  stop.abort(new Error("stop"));
  assertEquals(await aborted, "Error: stop");
  await q.task_done();
  await Promise.all(joins);
  await assertRejects(() => q.task_done(), RangeError);
  // A put that fails does not count.
  await q.put_many([1, 2, 3, 4]);
  await assertRejects(() => q.put_nowait(5), Full);
  await assertRejects(() => q.put(5, { timeout: 1 }), Full);
  for (let i = 0; i < 4; i++) await q.task_done();
  await q.join();
  q.close();
  await q.join();
  await assertRejects(() => q.task_done(), RangeError);
});

handleTest(
  "a queue of endpoints keeps those that were not put",
  async ({ queue }) => {
    const q = await queue(1);
    const [a, b] = Pipe<string>();
    await q.put("first");
    const use = async () => {
      await a.send("in use");
      assertEquals(await b.recv(), "in use");
    };
    await assertRejects(() => q.put([b, "c1"], { block: false }), Full);
    await use();
    await assertRejects(() => q.put([b, "c1"], { timeout: 5 }), Full);
    await use();
    const stop = new AbortController();
    const aborted = outcome(q.put([b, "c1"], { signal: stop.signal }));
    await use();
    stop.abort(new Error("stop"));
    assertEquals(await aborted, "Error: stop");
    await use();
    await assertRejects(() => q.put([b, () => {}]), DOMException);
    await use();
    // Closed while it waits: that put fails, and takes no place.
    const [c, d] = Pipe();
    const closed = outcome(q.put([d]));
    d.close();
    const waiting = q.put([b, "c1"]);
    await use();
    assertEquals(await q.get(), "first");
    assert(String(await closed).startsWith("OSError"));
    await waiting;
    assert(b.closed);
    const [conn, name] = await q.get() as [Connection<string>, string];
    assertEquals(name, "c1");
    await a.send("moved");
    assertEquals(await conn.recv(), "moved");
    for (const end of [a, c, conn]) end.close();
    await assertRejects(() => q.put([b]), OSError, "closed");
    assertEquals(await q.qsize(), 0);
  },
  { needs: ["transfer"] },
);

handleTest("Queue travels in a queue, also in itself", async ({ queue }) => {
  const q = await queue();
  const inner = new Queue<number>();
  await q.put({ inner, twice: [inner] });
  const { inner: handle, twice } = await q.get();
  assertStrictEquals(handle, twice[0]);
  await handle.put(1);
  assertEquals(await inner.get(), 1);
  handle.close();
  await q.put({ q });
  const { q: again } = await q.get() as { q: Queue<Any> };
  assert(again !== q);
  await again.put("through itself");
  assertEquals(await q.get(), "through itself");
  again.close();
  inner.close();
  await assertRejects(() => q.put([inner]), OSError, "closed");
  await assertRejects(() => q.put([new Map([[1, q]])]), DOMException);
  assertEquals(await q.qsize(), 0);
}, { needs: ["realm"] });

handleTest(
  "a handle that a getter of the options closes rejects the call",
  async ({ queue }) => {
    const closing = (q: Queue<Any>) => ({
      get timeout() {
        q.close();
        return 1;
      },
    });
    const calls: ((q: Queue<Any>) => Promise<unknown>)[] = [
      (q) => q.put(1, closing(q)),
      (q) => q.put_many([1], closing(q)),
      (q) => q.get(closing(q)),
      (q) => q.get_many(1, closing(q)),
    ];
    for (const call of calls) {
      const q = await queue();
      await assertRejects(() => call(q), OSError, "closed");
      assertEquals(await q.qsize(), 0);
    }
  },
  { needs: ["realm"] },
);

handleTest(
  "join_thread() ends after a put whose item closed the handle",
  async ({ queue }) => {
    const q = await queue();
    await q.put({
      get field() {
        q.close();
        return 1;
      },
    });
    await q.join_thread();
  },
  { needs: ["realm"] },
);

queueTest(
  "a put_many goes on when every handle is closed, and nothing is kept of it",
  async () => {
    const q = new Queue<Connection>();
    const [a, b] = Pipe();
    const [c, d] = Pipe();
    const items = function* () {
      yield a;
      q.close();
      yield c;
    };
    await q.put_many(items());
    for (const end of [b, d]) {
      await assertRejects(() => end.recv(), EOFError);
      end.close();
    }
  },
  { needs: ["transfer"] },
);

queueTest("put_many of nothing is a put, too: EOFError", async () => {
  const owner = new Holder();
  await owner.make("q");
  const q = await owner.give<Queue>("q");
  const got = outcome(q.get());
  await owner.terminate();
  await got;
  for (const items of [[], [1], new Set(), new Map().keys()]) {
    await assertRejects(() => q.put_many(items), EOFError);
  }
  q.close();
}, { needs: ["workers"] });

queueTest(
  "the last close() in another thread leaves no port here",
  async () => {
    const holder = new Holder();
    const q = new JoinableQueue<number>();
    await holder.hold("q", q);
    const before = livePorts();
    q.close();
    await holder.call("q", "close");
    while (livePorts() >= before) await new Promise((done) => setTimeout(done));
    assertEquals(livePorts(), before - 1);
    await holder.end();
  },
  { needs: ["workers"] },
);
