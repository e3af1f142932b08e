import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertNotEquals,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { Agent, PIPE_TASKS } from "./_agent.ts";
import { Random, scale, seed, spawnTask, test } from "./_harness.ts";
import { abilities } from "./_runtime.ts";
import {
  BrokenPipeError,
  BufferTooShort,
  Connection,
  Empty,
  EOFError,
  Full,
  OSError,
  pack,
  Pipe,
  ShutDown,
  unpack,
} from "../mod.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

/** Runs `body` with a pipe, and closes both ends. */
async function withPipe(
  body: (a: Connection<Any>, b: Connection<Any>) => Promise<void>,
  duplex = true,
): Promise<void> {
  const [a, b] = Pipe<Any>(duplex);
  try {
    await body(a, b);
  } finally {
    a.close();
    b.close();
  }
}

async function refused(call: () => Promise<unknown>): Promise<void> {
  const error = await assertRejects(call);
  assertEquals((error as Error).name, "DataCloneError");
}

const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** Whether a promise has settled once all that is delivered was dispatched. */
async function settles(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  promise.then(() => settled = true, () => settled = true);
  await wait(20);
  return settled;
}

test("errors have names, relations and are Errors", () => {
  const all = { EOFError, OSError, BrokenPipeError, Empty, Full, ShutDown };
  for (const [name, Class] of Object.entries(all)) {
    const error = new Class("text");
    assertInstanceOf(error, Error);
    assertEquals([error.name, error.message], [name, "text"]);
    assertInstanceOf(new Class(), Class);
  }
  assertInstanceOf(new BrokenPipeError(), OSError);
  assert(!(new EOFError() instanceof OSError));
  const message = new Uint8Array([1, 2]);
  const short = new BufferTooShort(message);
  assertInstanceOf(short, Error);
  assert(!(short instanceof OSError));
  assertEquals(short.name, "BufferTooShort");
  assertEquals(short.args.length, 1);
  assertStrictEquals(short.args[0], message);
});

test("Connection cannot be constructed", () => {
  const Class = Connection as unknown as new (x?: unknown) => unknown;
  assertThrows(() => new Class(), TypeError, "use Pipe()");
  assertThrows(() => new Class({}), TypeError);
});

test("Pipe() makes two ends of either kind", async () => {
  await withPipe((a, b) => {
    assert(a instanceof Connection);
    assertEquals([a.readable, a.writable, a.closed], [true, true, false]);
    assertEquals([b.readable, b.writable, b.closed], [true, true, false]);
    return Promise.resolve();
  });
  await withPipe(async (r, w) => {
    assertEquals([r.readable, r.writable], [true, false]);
    assertEquals([w.readable, w.writable], [false, true]);
    await w.send(1);
    assertEquals(await r.recv(), 1);
  }, false);
});

test("Connection checks closed, then direction, then arguments", async () => {
  const bad = "no" as Any;
  const calls: [string, (c: Connection<Any>) => Promise<unknown>][] = [
    ["send", (c) => c.send(() => {}, bad)],
    ["send_bytes", (c) => c.send_bytes(bad, -1)],
    ["recv", (c) => c.recv(bad)],
    ["recv_bytes", (c) => c.recv_bytes(-1)],
    ["recv_bytes_into", (c) => c.recv_bytes_into(bad, -1)],
    ["poll", (c) => c.poll(bad)],
  ];
  await withPipe(async (r, w) => {
    for (const [name, call] of calls) {
      const [wrong, word] = name.startsWith("send")
        ? [r, "connection is read-only"]
        : [w, "connection is write-only"];
      await assertRejects(() => call(wrong), OSError, word, name);
    }
    r.close();
    w.close();
    for (const [name, call] of calls) {
      await assertRejects(() => call(r), OSError, "handle is closed", name);
      await assertRejects(() => call(w), OSError, "handle is closed", name);
    }
    assertThrows(() => r.fileno(), OSError, "handle is closed");
  }, false);
  await withPipe(async (a, b) => {
    // A bad argument is found before the end of file, or a broken pipe.
    b.close();
    for (const [name, call] of calls) {
      const error = await assertRejects(() => call(a));
      assert(
        error instanceof TypeError || error instanceof RangeError,
        `${name}: ${error}`,
      );
    }
    await assertRejects(() => a.recv({ signal: bad }), TypeError);
    await assertRejects(() => a.send(1, { transfer: bad }), TypeError);
  });
});

test("Connection.readable and writable stay after close()", async () => {
  await withPipe((r, w) => {
    r.close();
    w.close();
    assertEquals([r.readable, r.writable], [true, false]);
    assertEquals([w.readable, w.writable], [false, true]);
    return Promise.resolve();
  }, false);
});

test("Connection.closed says nothing about the peer", async () => {
  await withPipe(async (a, b) => {
    b.close();
    await assertRejects(() => a.recv(), EOFError);
    await assertRejects(() => a.send(1), BrokenPipeError);
    assert(!a.closed);
  });
});

test("Connection.fileno() is unique and stable", () => {
  const ends = Array.from({ length: 50 }, () => Pipe()).flat();
  const numbers = ends.map((end) => end.fileno());
  assert(numbers.every(Number.isInteger));
  assertEquals(new Set(numbers).size, 100);
  assertEquals(ends.map((end) => end.fileno()), numbers);
  for (const end of ends) end.close();
});

test("Connection.close() is idempotent; what was sent arrives, then EOFError", async () => {
  const close = (used: boolean) =>
    withPipe(async (a, b) => {
      if (used) await b.poll(); // from now on it listens
      await a.send(1);
      a.send_bytes(new Uint8Array([2]));
      a.send(3);
      a.close();
      a.close();
      a[Symbol.dispose]();
      await a[Symbol.asyncDispose]();
      assertEquals(await b.recv(), 1);
      assertEquals((await b.recv_bytes())[0], 2);
      assertEquals(await b.recv(), 3);
      for (let i = 0; i < 3; i++) {
        await assertRejects(() => b.recv(), EOFError);
        await assertRejects(() => b.recv_bytes(), EOFError);
        await assertRejects(
          () => b.recv_bytes_into(new Uint8Array(1)),
          EOFError,
        );
        assertEquals(await b.poll(), true);
      }
    });
  await close(false);
  await close(true);
});

test("Connection disposes", async () => {
  const [a, b] = Pipe();
  a[Symbol.dispose]();
  assert(a.closed);
  await b[Symbol.asyncDispose]();
  assert(b.closed);
});

test("close() rejects pending receives and poll, and lets sends resolve", async () => {
  await withPipe(async (a, b) => {
    const pending = [
      b.recv(),
      b.recv_bytes(),
      b.recv_bytes_into(new Uint8Array(1)),
      b.poll(null),
      b.poll(60_000),
    ];
    const sends = Array.from({ length: 400 }, (_, i) => b.send(i));
    b.close();
    for (const call of pending) {
      await assertRejects(() => call, OSError);
    }
    await Promise.all(sends);
    for (let i = 0; i < 400; i++) assertEquals(await a.recv(), i);
    await assertRejects(() => a.recv(), EOFError);
  });
});

test("send() at once knows that the peer in its thread has closed", async () => {
  await withPipe(async (a, b) => {
    b.close();
    await assertRejects(() => a.send(1), BrokenPipeError, "Cannot send");
    await assertRejects(
      () => a.send_bytes(new Uint8Array(1)),
      BrokenPipeError,
    );
    // What nobody could be sent is told first, as in Python.
    await refused(() => a.send({ f: () => {} }));
    await assertRejects(() => a.send([a]), TypeError, "itself");
    const [c, d] = Pipe();
    await assertRejects(() => a.send({ c }), BrokenPipeError);
    assert(!a.closed && !c.closed);
    c.close();
    await assertRejects(() => a.send({ c }), OSError, "handle is closed");
    d.close();
  });
  await withPipe(async (a, b) => {
    await a.send(1);
    await b.recv();
    b.close();
    await assertRejects(() => a.send(1), BrokenPipeError);
  });
});

test(
  "send() on a fresh end knows that the peer elsewhere has closed",
  async () => {
    for (let i = 0; i < scale(3); i++) {
      const [a, conn] = Pipe<Any>();
      const [go, there] = Pipe<Any>();
      const run = spawnTask("sendFresh", { conn, go: there }, {
        module: PIPE_TASKS,
      });
      a.close();
      await go.send("go");
      assertEquals(await run.result, Array(3).fill("BrokenPipeError"));
      go.close();
    }
  },
  { needs: ["workers"] },
);

test("send() fails with BrokenPipeError once a worker is gone", async () => {
  for (const use of [false, true]) {
    const [a, conn] = Pipe<Any>();
    const run = spawnTask("holdIt", { conn }, { module: PIPE_TASKS });
    await run.worker.next();
    if (use) await a.send(0);
    await run.worker.terminate();
    await assertRejects(() => a.recv(), EOFError);
    await assertRejects(() => a.send(1), BrokenPipeError);
    a.close();
  }
}, { needs: ["workers"] });

// --- Values --------------------------------------------------------------------

class Point {
  x = 1;
  get y() {
    return 2;
  }
}

function values(): unknown[] {
  const cycle: Any = { name: "cycle", list: [] };
  cycle.self = cycle;
  cycle.list.push(cycle, [cycle.list]);
  const shared = { s: 1 };
  const sharedBuffer = new Uint8Array([1, 2, 3]).buffer;
  const array: Any = [1, 2];
  array.named = "property";
  const holes = [1, , 3, , ,];
  const both: Any = [1, , 3]; // as many keys as elements
  both.named = "property";
  const proto = JSON.parse('{"__proto__": {"polluted": true}, "x": 1}');
  const bare = Object.assign(Object.create(null), { a: 1, b: { c: 2 } });
  const inherits = Object.create({ inherited: 1 });
  inherits.own = 2;
  return [
    undefined,
    null,
    0,
    -0,
    NaN,
    Infinity,
    -Infinity,
    1.5,
    true,
    false,
    "",
    "text",
    "\ud800 lone",
    "x".repeat(70_000),
    2n ** 100n,
    -1n,
    [],
    {},
    [undefined],
    [-0, NaN, null],
    { a: undefined, b: -0, c: NaN },
    holes,
    both,
    new Array(5),
    array,
    proto,
    bare,
    inherits,
    cycle,
    { one: shared, two: shared, list: [shared, shared] },
    { one: sharedBuffer, two: new Uint8Array(sharedBuffer, 1, 1) },
    new Map<Any, Any>([[{ k: 1 }, new Set([1])], ["x", new Map()]]),
    new Set([1, "1", NaN]),
    new Date(5),
    new Date(NaN),
    /a+/giu,
    new RangeError("message", { cause: { deep: [1] } }),
    new Error("plain"),
    Object(1),
    Object("boxed"),
    Object(false),
    new Uint8Array([1, 2, 3]),
    new Float64Array([1.5, -0, NaN]),
    new BigInt64Array([1n]),
    new DataView(new ArrayBuffer(4), 1, 2),
    new ArrayBuffer(3),
    new Uint8Array(5000).fill(7),
    new Point(),
    { nested: { deep: { er: { still: [[[[{ x: [1, { y: 2 }] }]]]] } } } },
    Array.from({ length: 2000 }, (_, i) => i),
    Array.from({ length: 40 }, (_, i) => ({ i })),
    Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`k${i}`, i])),
    {
      get getter() {
        return "got";
      },
    },
    { 1: "numeric", b: 2, 0: "order", [Symbol("dropped")]: 3 },
    Object.defineProperty({ seen: 1 }, "hidden", { value: 2 }),
    Object.freeze({ frozen: Object.freeze([1]) }),
    Object.setPrototypeOf(new Date(5), Object.prototype),
    Object.setPrototypeOf(new Error("in disguise"), null),
    Object.setPrototypeOf([1, 2], null),
    Object.defineProperty(new Uint8Array([1]), "byteLength", { value: NaN }),
    {
      toString: undefined,
      constructor: "c",
      hasOwnProperty: 1,
      valueOf: null,
    },
    { endpoints: [], places: [], value: 1 },
  ];
}

/** What two equal values agree on, beyond deep equality. */
function shape(value: unknown, seen = new Map<unknown, number>()): unknown {
  if (Object.is(value, -0)) return "-0";
  if (typeof value !== "object" || value === null) {
    return `${typeof value} ${String(value)}`;
  }
  const known = seen.get(value);
  if (known !== undefined) return `#${known}`;
  seen.set(value, seen.size);
  const prototype = Object.getPrototypeOf(value);
  const kind = Object.prototype.toString.call(value) +
    (prototype?.constructor?.name ?? "none");
  const inner = value instanceof Map
    ? [...value].map(([k, v]) => [shape(k, seen), shape(v, seen)])
    : value instanceof Set
    ? [...value].map((v) => shape(v, seen))
    : value instanceof Date || value instanceof RegExp
    ? String(value)
    : value instanceof ArrayBuffer
    ? [...new Uint8Array(value)].join()
    : ArrayBuffer.isView(value)
    ? [value.byteOffset, value.byteLength, shape(value.buffer, seen)]
    : Reflect.ownKeys(value).filter((key) => key !== "stack").map((key) => {
      const { get, enumerable, value: v } = Object.getOwnPropertyDescriptor(
        value,
        key,
      )!;
      return [String(key), !!get, enumerable, shape(v, seen)];
    });
  return [kind, Array.isArray(value) ? value.length : "", inner];
}

test("send() gives what structuredClone gives, alone and in a burst", async () => {
  await withPipe(async (a, b) => {
    const expected = values().map((value) => shape(structuredClone(value)));
    const all = values();
    for (const [i, value] of all.entries()) {
      await a.send(value);
      assertEquals(shape(await b.recv()), expected[i], `alone, ${i}`);
    }
    // Each in the middle of a burst.
    for (const [i, value] of all.entries()) {
      for (const x of [0, { x: 0 }, value, { v: value }, 1]) a.send(x);
      await b.recv();
      await b.recv();
      assertEquals(shape(await b.recv()), expected[i], `in a burst, ${i}`);
      assertEquals(
        shape(await b.recv()),
        shape(structuredClone({ v: value })),
        `inside, ${i}`,
      );
      assertEquals(await b.recv(), 1);
    }
    // All in one burst.
    for (const value of all) a.send(value);
    for (const [i, want] of expected.entries()) {
      assertEquals(shape(await b.recv()), want, `one burst, ${i}`);
    }
  });
  assertEquals(({} as Any).polluted, undefined);
});

test("send() gives the same through a worker", async () => {
  const [a, conn] = Pipe<Any>();
  const run = spawnTask("echo", { conn }, { module: PIPE_TASKS });
  const all = values();
  for (const value of all) a.send(value);
  for (const [i, value] of all.entries()) {
    assertEquals(
      shape(await a.recv()),
      shape(structuredClone(structuredClone(value))),
      String(i),
    );
  }
  a.close();
  await run.result;
}, { needs: ["workers"] });

test("send() takes a snapshot at the call", async () => {
  await withPipe(async (a, b) => {
    for (const burst of [false, true]) {
      const list = [1, [2], { three: [3] }];
      const value: Any = {
        n: 1,
        deep: { list },
        map: new Map([["k", { v: 1 }]]),
        bytes: new Uint8Array([1]),
        date: new Date(1),
      };
      const plain: Any = { n: 1, deep: { list: structuredClone(list) } };
      if (burst) a.send("first");
      a.send(value);
      a.send(plain);
      value.n = plain.n = 2;
      value.extra = plain.extra = 1;
      value.deep.list.push(4);
      plain.deep.list.push(4);
      plain.deep.list[1].push(4);
      plain.deep.list[2].three[0] = 4;
      delete plain.deep;
      value.map.get("k").v = 2;
      value.bytes[0] = 2;
      value.date.setTime(2);
      if (burst) assertEquals(await b.recv(), "first");
      const got = await b.recv();
      const want = [1, [2], { three: [3] }];
      assertEquals([got.n, got.deep.list, got.extra], [1, want, undefined]);
      assertEquals(got.map.get("k").v, 1);
      assertEquals([got.bytes[0], +got.date], [1, 1]);
      assertEquals(await b.recv(), { n: 1, deep: { list: want } });
    }
  });
});

test("send() does not change what it is given", async () => {
  await withPipe(async (a, b) => {
    const value = { list: [1, { x: 2 }], buffer: new ArrayBuffer(8) };
    const before = shape(value);
    for (let i = 0; i < 3; i++) a.send(value);
    for (let i = 0; i < 3; i++) {
      const got = await b.recv();
      assert(got !== value && got.list !== value.list);
    }
    assertEquals(shape(value), before);
  });
});

function args(..._: unknown[]): unknown {
  return arguments;
}

test("send() of what cannot be cloned rejects that call only", async () => {
  const { proxy: revoked, revoke } = Proxy.revocable({}, {});
  revoke();
  const bad: unknown[] = [
    () => {},
    Symbol("s"),
    { f: () => {} },
    [1, [Symbol("s")]],
    new Map([["f", () => {}]]),
    { deep: { er: [new WeakMap()] } },
    // Where a Proxy cannot be told from its target, a burst sends what it stands for.
    ...abilities.proxies
      ? [new Proxy({ x: 1 }, {}), { p: new Proxy([], {}) }, [revoked]]
      : [],
    Promise.resolve(),
    args(1, { x: 2 }),
  ];
  await withPipe(async (a, b) => {
    for (const [i, value] of bad.entries()) {
      const fails = (() => {
        try {
          structuredClone(value);
          return false;
        } catch {
          return true;
        }
      })();
      await (fails ? refused(() => a.send(value)) : a.send(value));
      const burst = [a.send(1), a.send({ two: 2 }), a.send(value), a.send(3)];
      const names = (await Promise.allSettled(burst)).map((x) =>
        x.status === "rejected" ? x.reason.name : "sent"
      );
      assertEquals(
        names,
        ["sent", "sent", fails ? "DataCloneError" : "sent", "sent"],
        String(i),
      );
      if (!fails) await b.recv();
      assertEquals(await b.recv(), 1);
      assertEquals(await b.recv(), { two: 2 });
      if (!fails) await b.recv();
      assertEquals(await b.recv(), 3);
      assertEquals(await b.poll(), false);
    }
  });
});

test("send() passes on what a getter throws", async () => {
  await withPipe(async (a, b) => {
    const value = {
      get x() {
        throw new RangeError("Mine");
      },
    };
    await assertRejects(() => a.send(value), RangeError, "Mine");
    a.send(1);
    await assertRejects(() => a.send(value), RangeError, "Mine");
    await a.send(2);
    assertEquals([await b.recv(), await b.recv()], [1, 2]);
  });
});

test("send() survives a getter that sends, or closes", async () => {
  await withPipe(async (a, b) => {
    const sends = {
      get x() {
        a.send("inner");
        return "outer";
      },
    };
    a.send(0);
    a.send(sends);
    const got = [await b.recv(), await b.recv(), await b.recv()];
    assertEquals(got[0], 0);
    assertEquals(
      got.slice(1).map((v) => typeof v === "string" ? v : v.x).sort(),
      ["inner", "outer"],
    );
    const closes = {
      get x() {
        a.close();
        return 1;
      },
    };
    await a.send(closes).catch(() => {});
  });
});

test("send() does not add to Object.prototype, nor read from it", async () => {
  await withPipe(async (a, b) => {
    const evil = JSON.parse(
      '{"__proto__": {"x": 1}, "constructor": {"prototype": {"y": 2}}}',
    );
    a.send(0);
    a.send(evil);
    a.send([evil]);
    await b.recv();
    for (const got of [await b.recv(), (await b.recv())[0]]) {
      assert(Object.hasOwn(got, "__proto__"));
      assertStrictEquals(Object.getPrototypeOf(got), Object.prototype);
      assertEquals(got.constructor, { prototype: { y: 2 } });
    }
    assertEquals([({} as Any).x, ({} as Any).y], [undefined, undefined]);
  });
}, { needs: ["realm"] });

test("send() transfers", async () => {
  await withPipe(async (a, b) => {
    const buffer = new Uint8Array([1, 2, 3]).buffer;
    const { port1, port2 } = new MessageChannel();
    await a.send({ buffer, port: port1 }, { transfer: [buffer, port1] });
    assertEquals(buffer.byteLength, 0);
    const got = await b.recv();
    assertEquals([...new Uint8Array(got.buffer)], [1, 2, 3]);
    const answered = new Promise((done) =>
      port2.onmessage = (event) => done(event.data)
    );
    got.port.postMessage("through");
    assertEquals(await answered, "through");
    got.port.close();
    port2.close();
    const kept = new ArrayBuffer(4);
    for (const bad of [() => {}, args()]) {
      await refused(() => a.send([kept, bad], { transfer: [kept] }));
      assertEquals(kept.byteLength, 4, "nothing was moved");
    }
    await refused(() => a.send(kept, { transfer: [kept, kept] }));
    assertEquals(kept.byteLength, 4, "nothing was moved");
    const shut = new ArrayBuffer(4);
    await assertRejects(() =>
      a.send(shut, { transfer: [shut], signal: AbortSignal.abort() })
    );
    assertEquals(shut.byteLength, 4, "nothing was moved");
    a.send(1);
    a.send(kept, { transfer: [kept] });
    a.send(2);
    assertEquals(kept.byteLength, 0);
    assertEquals(await b.recv(), 1);
    assertEquals((await b.recv()).byteLength, 4);
    assertEquals(await b.recv(), 2);
    const gone = new ArrayBuffer(4);
    b.close();
    await assertRejects(
      () => a.send(gone, { transfer: [gone] }),
      BrokenPipeError,
    );
    assertEquals(gone.byteLength, 4, "nothing was moved");
  });
}, { needs: ["transfer"] });

test("send() transfers a buffer that is met in several places", async () => {
  await withPipe(async (a, b) => {
    const view = new Uint8Array([1, 2, 3]);
    const part = { view, whole: view.buffer };
    await a.send({ one: part, other: part }, { transfer: [view.buffer] });
    assertEquals(view.length, 0);
    const { one, other } = await b.recv();
    assertStrictEquals(one, other);
    assertStrictEquals(one.view.buffer, one.whole);
    assertEquals([...one.view], [1, 2, 3]);
  });
}, { needs: ["transfer"] });

// --- Order and kinds -------------------------------------------------------------

test("recv() and recv_bytes() share one order; the wrong kind leaves the message", async () => {
  await withPipe(async (a, b) => {
    for (const burst of [false, true]) {
      const sends = [
        () => a.send("object"),
        () => a.send_bytes(new Uint8Array([1])),
        () => a.send_bytes(new Uint8Array([2])),
        () => a.send("last"),
      ];
      for (const send of sends) burst ? send() : await send();
      for (let i = 0; i < 2; i++) {
        await assertRejects(() => b.recv_bytes(), TypeError, "recv()");
        await assertRejects(
          () => b.recv_bytes_into(new Uint8Array(0)),
          TypeError,
          "recv()",
        );
      }
      assertEquals(await b.recv(), "object");
      await assertRejects(() => b.recv(), TypeError, "recv_bytes");
      assertEquals((await b.recv_bytes())[0], 1);
      await assertRejects(() => b.recv(), TypeError, "recv_bytes");
      assertEquals((await b.recv_bytes())[0], 2);
      assertEquals(await b.recv(), "last");
    }
    // Also when the receive was waiting.
    const wrong = b.recv_bytes();
    const right = b.recv();
    a.send("x");
    await assertRejects(() => wrong, TypeError);
    assertEquals(await right, "x");
  });
});

test("several receives are served in call order", async () => {
  await withPipe(async (a, b) => {
    const order: unknown[] = [];
    const pending = Array.from(
      { length: 10 },
      () => b.recv().then((x) => order.push(x)),
    );
    for (let i = 0; i < 5; i++) a.send(i);
    for (let i = 5; i < 10; i++) await a.send(i);
    await Promise.all(pending);
    assertEquals(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    // One that gives up does not take a message along.
    const stop = new AbortController();
    const calls = [b.recv(), b.recv({ signal: stop.signal }), b.recv()];
    stop.abort();
    await assertRejects(() => calls[1]!);
    a.send("first");
    a.send("second");
    assertEquals([await calls[0], await calls[2]], ["first", "second"]);
    const late = [b.recv(), b.recv()];
    a.close();
    for (const call of late) await assertRejects(() => call, EOFError);
  });
});

test("messages arrive in order, however they were sent", async () => {
  const random = new Random(seed());
  const [a, conn] = Pipe<Any>();
  const run = spawnTask<Any[]>("collect", { conn }, { module: PIPE_TASKS });
  const n = scale(3000);
  for (let i = 0; i < n; i++) {
    const value = random.pick([i, { i }, [i], new Map([["i", i]]), {
      i,
      pad: "x".repeat(random.int(3000)),
    }]);
    const sent = a.send(value);
    if (random.chance(0.2)) await sent;
    if (random.chance(0.01)) await wait(0);
  }
  a.close();
  const got = (await run.result).map((x) =>
    x instanceof Map ? x.get("i") : x.i ?? (Array.isArray(x) ? x[0] : x)
  );
  assertEquals(got, Array.from({ length: n }, (_, i) => i));
}, { needs: ["workers"] });

test("for await receives until the end of file", async () => {
  await withPipe(async (a, b) => {
    a.send(1);
    a.send(undefined);
    a.send(3);
    a.close();
    const got = [];
    for await (const x of b) got.push(x);
    assertEquals(got, [1, undefined, 3]);
    for await (const _ of b) throw new Error("Nothing is left");
  });
  await withPipe(async (a, b) => {
    a.send(1);
    a.send(2);
    for await (const x of b) {
      assertEquals(x, 1);
      break;
    }
    assert(!b.closed);
    assertEquals(await b.recv(), 2);
    await a.send_bytes(new Uint8Array(1));
    await assertRejects(async () => {
      for await (const _ of b);
    }, TypeError);
    b.close();
    await assertRejects(
      async () => {
        for await (const _ of b);
      },
      OSError,
      "handle is closed",
    );
  });
});

test("for await that is ended from outside while it waits takes nothing more", async () => {
  for (const how of ["return", "throw"] as const) {
    await withPipe(async (a, b) => {
      const loop = b[Symbol.asyncIterator]();
      const next = loop.next();
      const reason = new Error("Stop");
      const ended = how === "return" ? loop.return() : loop.throw(reason);
      assertEquals(await next, { done: true, value: undefined });
      if (how === "throw") await assertRejects(() => ended, Error, "Stop");
      else assertEquals(await ended, { done: true, value: undefined });
      await a.send(1);
      assertEquals(await b.recv(), 1);
      assertEquals(await loop.next(), { done: true, value: undefined });
    });
  }
});

// --- Backpressure ------------------------------------------------------------------

test("send() waits while the peer has 256 messages unread", async () => {
  await withPipe(async (a, b) => {
    let sent = 0;
    const all = (async () => {
      for (let i = 0; i < 600; i++, sent++) await a.send(i);
    })();
    await wait(20);
    assert(sent >= 200 && sent <= 257, String(sent));
    const stopped = sent;
    await wait(20);
    assertEquals(sent, stopped);
    for (let i = 0; i < 300; i++) assertEquals(await b.recv(), i);
    await wait(20);
    assert(sent > stopped && sent <= 556, String(sent));
    for (let i = 300; i < 600; i++) assertEquals(await b.recv(), i);
    await all;
  });
});

test("send() waits for nothing but room: what was taken is known to it", async () => {
  // Fewer than a window at a time, by one task: nobody else makes room.
  await withPipe(async (a, b) => {
    for (let k = 0; k < 10; k++) {
      for (let i = 0; i < 200; i++) await a.send(i);
      for (let i = 0; i < 200; i++) assertEquals(await b.recv(), i);
    }
    for (let k = 0; k < 10; k++) {
      const bytes = new Uint8Array(100_000);
      for (let i = 0; i < 38; i++) await a.send_bytes(bytes);
      for (let i = 0; i < 38; i++) await b.recv_bytes();
    }
  });
  // Calls that wait go on as soon as there is room.
  await withPipe(async (a, b) => {
    const sends = Array.from({ length: 300 }, (_, i) => a.send(i));
    for (let i = 0; i < 44; i++) await b.recv();
    assert(!await settles(sends[299]!));
    await b.recv();
    await Promise.all(sends);
    // An end that has moved does not know that it was asked.
    const more = Array.from({ length: 10 }, (_, i) => a.send(i));
    assert(!await settles(more[9]!));
    const [c, d] = Pipe<Any>();
    await c.send(b);
    const moved = await d.recv() as typeof b;
    for (let i = 0; i < 10; i++) await moved.recv();
    await Promise.all(more);
    for (const end of [moved, c, d]) end.close();
  });
  // An end that closes leaves the room that it has made.
  await withPipe(async (a, b) => {
    const sends = Array.from({ length: 256 }, (_, i) => a.send(i));
    await b.recv();
    b.close();
    await Promise.all(sends);
  });
});

test("send() waits at 1024 messages unread for a reader that often had to wait", async () => {
  await withPipe(async (a, b) => {
    for (let i = 0; i < 16; i++) {
      const received = Array.from({ length: 128 }, () => b.recv());
      for (let j = 0; j < 128; j++) await a.send(j);
      await Promise.all(received);
    }
    await b.send("after its reports");
    await a.recv();
    await Promise.all(Array.from({ length: 1023 }, (_, i) => a.send(i)));
    assert(!await settles(a.send(1023)));
    // It is as wide for an end that has moved.
    const [c, d] = Pipe<Any>();
    await c.send(a);
    const moved = await d.recv() as typeof a;
    const more = moved.send(1024);
    assert(!await settles(more));
    for (let i = 0; i < 600; i++) assertEquals(await b.recv(), i);
    await more;
    for (let i = 600; i <= 1024; i++) assertEquals(await b.recv(), i);
    for (const end of [moved, c, d]) end.close();
  });
});

test("send() waits while the peer has 4 MiB unread, one message is always allowed", async () => {
  const weights: [string, (a: Connection<Any>) => Promise<void>][] = [
    ["bytes", (a) => a.send_bytes(new Uint8Array(1 << 20))],
    ["a buffer", (a) => a.send(new ArrayBuffer(1 << 20))],
    ["text", (a) => a.send({ text: "x".repeat(1 << 20) })],
    ["nested", (a) => a.send({ of: { data: new Uint8Array(1 << 20) } })],
    ["numbers", (a) => a.send({ rows: new Array(1 << 17).fill(0.5) })],
    ["a set", (a) => a.send(new Set([new Float64Array(1 << 17)]))],
    ["a key", (a) => a.send({ ["x".repeat(1 << 20)]: 1 })],
    ["an error", (a) => a.send(new Error("x".repeat(1 << 20)))],
    ["integers", (a) => a.send(Array(8).fill(1n << 1_048_575n))], // Firefox: at most that
    ["a map", (a) => a.send(new Map([["x".repeat(1 << 20), 1]]))],
    ["objects", (a) => {
      const row = () => ({ id: 1, at: { x: 1, y: 2 } });
      return a.send(Array.from({ length: 18_000 }, row));
    }],
    ["transferred", (a) => {
      const buffer = new ArrayBuffer(1 << 20);
      return a.send({ deep: { buffer } }, { transfer: [buffer] });
    }],
  ];
  for (const [name, send] of weights) {
    await withPipe(async (a, b) => {
      let sent = 0;
      const all = (async () => {
        for (; sent < 16; sent++) await send(a);
      })();
      await wait(30);
      assert(sent >= 3 && sent <= 5, `${name}: ${sent}`);
      for (let i = 0; i < 16; i++) {
        name === "bytes" ? await b.recv_bytes() : await b.recv();
      }
      await all;
      // One that is larger than the window.
      await a.send_bytes(new Uint8Array(5 << 20));
      assert(!await settles(a.send_bytes(new Uint8Array(8))));
      await b.recv_bytes();
    });
  }
});

test("send() that waits rejects when the peer closes", async () => {
  await withPipe(async (a, b) => {
    const sends = Array.from({ length: 300 }, (_, i) => a.send(i));
    const all = Promise.allSettled([...sends, a.send_bytes(new Uint8Array(1))]);
    await wait(5);
    b.close();
    const outcomes = await all;
    assertEquals(outcomes[0]!.status, "fulfilled");
    for (const outcome of outcomes.slice(257)) {
      assertEquals(outcome.status, "rejected");
      assertInstanceOf(
        (outcome as PromiseRejectedResult).reason,
        BrokenPipeError,
      );
    }
  });
});

test("send() that waits rejects when the peer's thread ends", async () => {
  const [a, conn] = Pipe<Any>();
  const run = spawnTask("holdIt", { conn }, { module: PIPE_TASKS });
  await run.worker.next();
  const sends = Array.from({ length: 300 }, (_, i) => a.send(i));
  const last = Promise.allSettled(sends);
  await run.worker.terminate();
  const outcomes = await last;
  assertInstanceOf(
    (outcomes[299] as PromiseRejectedResult).reason,
    BrokenPipeError,
  );
  a.close();
}, { needs: ["workers"] });

test("send() that waits ends with close(), an abort, or handing over", async () => {
  for (const burst of [300, 1]) {
    await withPipe(async (a, b) => {
      const stop = new AbortController();
      const { signal } = stop;
      const sends = Array.from(
        { length: burst },
        (_, i) => a.send(i, { signal }),
      );
      const last = a.send_bytes(new Uint8Array(8 << 20), 0, null, { signal });
      const all = Promise.allSettled([...sends, last]);
      stop.abort(new RangeError("Enough"));
      await all;
      if (burst === 300) await assertRejects(() => sends[299]!, RangeError);
      await assertRejects(() => last, RangeError, "Enough");
      // They had been posted.
      for (let i = 0; i < burst; i++) assertEquals(await b.recv(), i);
      assertEquals((await b.recv_bytes()).length, 8 << 20);
      await a.send("goes on");
      assertEquals(await b.recv(), "goes on");
    });
  }
  // At once: before the first send has even looked whether the peer is there.
  for (const how of ["close", "move"]) {
    await withPipe(async (a, b) => {
      const sends = Array.from({ length: 300 }, (_, i) => a.send(i));
      const [c, d] = Pipe<Any>();
      if (how === "close") a.close();
      else await c.send(a);
      await Promise.all(sends);
      for (let i = 0; i < 300; i++) assertEquals(await b.recv(), i);
      c.close();
      d.close();
    });
  }
});

test(
  "send() that waits across threads goes on as the reader takes",
  async () => {
    const agent = new Agent();
    const [a, b] = Pipe<Any>();
    await agent.take("b", b);
    let sent = 0;
    const all = (async () => {
      for (; sent < 1000; sent++) await a.send(sent);
    })();
    for (let i = 0; i < 1000; i++) {
      assertEquals(await agent.call("b", "recv"), i);
      assert(sent <= i + 1 + 256 + 1, `${sent} sent, ${i + 1} taken`);
    }
    await all;
    a.close();
    await agent.end();
  },
  { needs: ["workers"] },
);

// --- Signals -------------------------------------------------------------------------

/** Counts the listeners on a signal. */
function counted(): { stop: AbortController; listeners: () => number } {
  const stop = new AbortController();
  let listeners = 0;
  const { signal } = stop;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...args: Any[]) => {
    listeners++;
    return addEventListener.apply(signal, args as Any);
  };
  signal.removeEventListener = (...args: Any[]) => {
    listeners--;
    return removeEventListener.apply(signal, args as Any);
  };
  return { stop, listeners: () => listeners };
}

test("a signal that is aborted already rejects before anything happens", async () => {
  await withPipe(async (a, b) => {
    await a.send("message");
    const reason = { any: "value" };
    const signal = AbortSignal.abort(reason);
    const buffer = new ArrayBuffer(1);
    const calls = [
      () => a.send("not sent", { signal }),
      () => a.send(buffer, { signal, transfer: [buffer] }),
      () => a.send_bytes(new Uint8Array(1), 0, 1, { signal }),
      () => b.recv({ signal }),
      () => b.recv_bytes(null, { signal }),
      () => b.recv_bytes_into(new Uint8Array(9), 0, { signal }),
      () => b.poll(0, { signal }),
      () => b.poll(null, { signal }),
    ];
    for (const call of calls) {
      let caught: unknown;
      await call().catch((error) => caught = error);
      assertStrictEquals(caught, reason, String(call));
    }
    const [c, d] = Pipe();
    await a.send({ c }, { signal }).catch(() => {});
    assert(!c.closed);
    c.close();
    d.close();
    assertEquals(buffer.byteLength, 1);
    assertEquals(await b.recv(), "message");
    assertEquals(await b.poll(), false);
  });
});

test(
  "a view whose byteLength says nonsense arrives beside what was moved",
  async () => {
    await withPipe(async (a, b) => {
      const view = new Uint8Array([1]);
      Object.defineProperty(view, "byteLength", { value: NaN });
      const [end, other] = Pipe<Any>();
      await a.send({ end, view });
      const got = await b.recv();
      assertEquals([...got.view], [1]);
      got.end.close();
      other.close();
    });
  },
);

test("a signal that is none is a TypeError, and takes no message", async () => {
  await withPipe(async (a, b) => {
    const nothing = () => {};
    for (
      const bad of [
        1,
        {},
        { aborted: false },
        { aborted: false, addEventListener: nothing },
        { aborted: false, removeEventListener: nothing },
      ] as Any[]
    ) {
      const calls = [
        () => a.send("not sent", { signal: bad }),
        () => a.send_bytes(new Uint8Array(1), 0, 1, { signal: bad }),
        () => b.recv({ signal: bad }),
        () => b.recv_bytes(null, { signal: bad }),
        () => b.recv_bytes_into(new Uint8Array(1), 0, { signal: bad }),
        () => b.poll(null, { signal: bad }),
      ];
      for (const call of calls) await assertRejects(call, TypeError, "signal");
      await a.send("next");
      assertEquals(await b.recv(), "next");
    }
  });
});

test("an end that a getter of a message or of the options closes rejects the call", async () => {
  const closing = (end: Connection<Any>, fields = {}) => ({
    ...fields,
    get signal() {
      end.close();
      return undefined;
    },
  });
  const [e, f] = Pipe<Any>();
  const calls: ((a: Connection<Any>) => Promise<unknown>)[] = [
    (a) => a.send(closing(a)),
    (a) => (a.send(0), a.send(closing(a))),
    (a) => a.send(closing(a, { e })),
    (a) => a.send(closing(a, { no: () => {} })),
    // At the first look at the message, or a later one: some are for endpoints.
    ...[1, 2, 3].map((look) => (a: Connection<Any>) => {
      const late = () => --look === 0 && a.close();
      const item = {
        get late() {
          return late();
        },
        e,
      };
      return a.send(item).then(() => a.send("closed at the latest now"));
    }),
    (a) => a.send(1, closing(a)),
    (a) => a.send_bytes(new Uint8Array(1), 0, 1, closing(a)),
    (a) => a.recv(closing(a)),
    (a) => a.recv_bytes(null, closing(a)),
    (a) => a.recv_bytes_into(new Uint8Array(1), 0, closing(a)),
    (a) => a.poll(null, closing(a)),
  ];
  for (const call of calls) {
    const [a, b] = Pipe<Any>();
    const error = await assertRejects(() => call(a));
    assert(
      error instanceof OSError || error instanceof DOMException,
      `${call}: ${error}`,
    );
    await b.poll(null);
    b.close();
  }
  await e.send("still here");
  assertEquals(await f.recv(), "still here");
  e.close();
  f.close();
});

test("an abort rejects what waits, and loses nothing; no listener stays", async () => {
  await withPipe(async (a, b) => {
    const { stop, listeners } = counted();
    const { signal } = stop;
    // Calls that need not wait, and calls that succeed, leave none.
    await a.send(1, { signal });
    await a.send_bytes(new Uint8Array(1), 0, 1, { signal });
    assertEquals(await b.poll(1000, { signal }), true);
    await b.recv({ signal });
    await b.recv_bytes(null, { signal });
    assertEquals(await b.poll(0, { signal }), false);
    assertEquals(await b.poll(1, { signal }), false);
    const waited = b.recv({ signal });
    a.send(2);
    await waited;
    assertEquals(listeners(), 0);
    const calls = [
      b.recv({ signal }),
      b.recv_bytes(1, { signal }),
      b.recv_bytes_into(new Uint8Array(1), 0, { signal }),
      b.poll(null, { signal }),
      b.poll(60_000, { signal }),
    ];
    assertEquals(await settles(Promise.race(calls)), false);
    assertEquals(listeners(), 1, "however many calls");
    const reason = new Error("Stop");
    stop.abort(reason);
    for (const call of calls) {
      assertStrictEquals(await call.then(() => 0, (e) => e), reason);
    }
    assertEquals(listeners(), 0);
    await a.send("kept");
    assertEquals(await b.recv(), "kept");
  });
  for (const how of ["close", "eof", "move"]) {
    await withPipe(async (a, b) => {
      const { stop, listeners } = counted();
      const { signal } = stop;
      const calls = [b.recv({ signal }), b.poll(null, { signal })];
      for (let i = 0; i < 300; i++) calls.push(b.send(i, { signal }) as Any);
      const [c, d] = Pipe<Any>();
      await wait(1);
      if (how === "close") b.close();
      else if (how === "eof") a.close();
      else c.send(b);
      await Promise.allSettled(calls);
      assertEquals(listeners(), 0, how);
      c.close();
      d.close();
    });
  }
});

test("Connection echoes a random dialogue through a worker", async () => {
  const random = new Random(seed());
  const [a, conn] = Pipe<Any>();
  const run = spawnTask("echo", { conn }, { module: PIPE_TASKS });
  let sent = 0, got = 0;
  for (let round = 0; round < scale(200); round++) {
    const burst = random.int(20);
    for (let i = 0; i < burst; i++) a.send(sent++);
    const take = random.int(Math.min(40, sent - got + 1));
    for (let i = 0; i < take; i++) assertEquals(await a.recv(), got++);
  }
  while (got < sent) assertEquals(await a.recv(), got++);
  a.close();
  assertEquals(await run.result, "EOF");
  assertNotEquals(sent, 0);
}, { needs: ["workers"] });

test(
  "send() on a fresh end resolves though its peer reads and closes at once",
  async () => {
    const [a, b] = Pipe<Any>();
    const run = spawnTask("answer_once", { conn: b }, { module: PIPE_TASKS });
    for (let i = 0; i < 200; i++) {
      const [answer, reply] = Pipe<Any>(false);
      await a.send({ reply });
      assertEquals(await answer.recv(), 1);
      answer.close();
    }
    a.close();
    await run.result;
  },
  { needs: ["workers"] },
);

test(
  "send() on a fresh end resolves though the thread that made it reads and ends",
  async () => {
    for (let i = 0; i < 3; i++) {
      const [a, conn] = Pipe<Any>();
      const run = spawnTask("read_once", { conn }, { module: PIPE_TASKS });
      const { b } = await a.recv();
      const sent = b.send(i);
      const end = performance.now() + 100; // by then the thread has ended
      while (performance.now() < end);
      await sent;
      await run.worker.exited;
      a.close();
      b.close();
    }
  },
  { needs: ["workers"] },
);

test(
  "several sends on a fresh end resolve though only the first has been read",
  async () => {
    const [a, b] = Pipe<Any>();
    const [message, transfer] = pack(b);
    const sent = Promise.all([a.send(1), a.send(2), a.send(3)]);
    const copy = structuredClone(message, { transfer });
    const moved = unpack<Connection<Any>>(copy);
    assertEquals(await moved.recv(), 1);
    moved.close();
    await sent;
    a.close();
  },
  { needs: ["transfer"] },
);

test(
  "a send that is refused leaves the parts that it was to transfer",
  async () => {
    await withPipe(async (a, b) => {
      const x = new ArrayBuffer(4);
      const hidden = new Map<unknown, unknown>([[1, x], [2, () => {}]]);
      for (const value of [hidden, { f: () => {} }]) {
        await refused(() => a.send(value, { transfer: [x] }));
        assertEquals(x.byteLength, 4);
      }
      assert(!await b.poll());
    });
  },
  { needs: ["transfer"] },
);

test(
  "send() on a fresh end resolves though its peer here reads and closes",
  async () => {
    for (let i = 0; i < 20; i++) {
      const [a, b] = Pipe<Any>();
      const [message, transfer] = pack(b);
      const sent = a.send(i); // while the peer is on its way
      const copy = structuredClone(message, { transfer });
      const moved = unpack<Connection<Any>>(copy);
      assertEquals(await moved.recv(), i);
      moved.close();
      await sent;
      a.close();
    }
  },
  { needs: ["transfer"] },
);
