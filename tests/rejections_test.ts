// Every rejection that the contract names, each provoked on every runtime. Other tests look at what comes
// before and after; this is the list of them.

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { type Need, test, wait } from "./_harness.ts";
import { Holder, queueTest } from "./_holder.ts";
import {
  BrokenPipeError,
  BufferTooShort,
  type Connection,
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

// deno-lint-ignore no-explicit-any
type Any = any;
type Conn = Connection<Any>;

/** What is opened on the way is closed at the end. */
class Scene {
  readonly #opened: { close(): void }[] = [];

  open<T extends { close(): void }>(opened: T): T {
    this.#opened.push(opened);
    return opened;
  }

  pipe(duplex = true): [Conn, Conn] {
    const [a, b] = Pipe<Any>(duplex);
    return [this.open(a), this.open(b)];
  }

  queue(maxsize = 0): JoinableQueue<Any> {
    return this.open(new JoinableQueue<Any>(maxsize));
  }

  close(): void {
    for (const opened of this.#opened) opened.close();
  }
}

/** What the calls that `provoke` makes reject with, or throw. */
interface Row {
  error: new (...args: Any[]) => Error;
  /** Stands in the message. */
  words: string;
  provoke: (scene: Scene) => Called | Promise<Called>;
  needs?: Need[];
}
type Called = (() => unknown)[];

const REASON = new RangeError("The reason of the signal");

async function check({ error, words, provoke }: Row): Promise<void> {
  const scene = new Scene();
  try {
    const calls = await provoke(scene);
    assert(calls.length > 0);
    for (const call of calls) {
      const what = String(call);
      const thrown = await (async () => await call())().then(
        () => new Error(`Nothing: ${what}`),
        (error) => error,
      );
      // Not merely one of its kind. The platform's errors may be of another realm.
      const name = error === DOMException ? "DataCloneError" : error.name;
      assertEquals(thrown.name, name, `${what}: ${thrown}`);
      if (error !== DOMException) assertInstanceOf(thrown, error, what);
      assertStringIncludes(thrown.message, words, what);
    }
  } finally {
    scene.close();
  }
}

/** Calls that were made already: they have to reject later. */
function pending(...promises: Promise<unknown>[]): Called {
  for (const promise of promises) promise.catch(() => {});
  return promises.map((promise) => () => promise);
}

const eight = new Uint8Array(8);

/** Each call that receives. */
function receives(c: Conn, options?: { signal: AbortSignal }): Called {
  return [
    () => c.recv(options),
    () => c.recv_bytes(undefined, options),
    () => c.recv_bytes_into(eight, 0, options),
  ];
}

/** Each call that may wait, on a connection. */
function waits(c: Conn, options?: { signal: AbortSignal }): Called {
  return [
    ...receives(c, options),
    () => c.poll(null, options),
    () => wait([c], null, options),
  ];
}

function sends(c: Conn): Called {
  return [() => c.send(1), () => c.send_bytes(eight)];
}

function gets(q: Queue<Any>, options: object = {}): Called {
  return [() => q.get(options), () => q.get_many(2, options)];
}

function puts(q: Queue<Any>, options: object = {}): Called {
  return [() => q.put(1, options), () => q.put_many([1], options)];
}

function now(calls: Called): Called {
  return pending(...calls.map((call) => call() as Promise<unknown>));
}

/** Fills the window of an end. */
async function fill(c: Conn): Promise<void> {
  for (let i = 0; i < 255; i++) await c.send(i);
}

const PIPES: Record<string, Row> = {
  "a duration that is NaN or no number": {
    error: TypeError,
    words: "timeout",
    provoke(scene) {
      const [a] = scene.pipe();
      return [
        () => a.poll(NaN),
        () => a.poll("1" as Any),
        () => wait([a], NaN),
      ];
    },
  },
  "offsets, sizes and lengths that are no integers": {
    error: TypeError,
    words: "integer",
    provoke(scene) {
      const [a] = scene.pipe();
      return [
        () => a.send_bytes(eight, 0.5),
        () => a.send_bytes(eight, 0, "1" as Any),
        () => a.recv_bytes(1.5),
        () => a.recv_bytes_into(eight, NaN),
      ];
    },
  },
  "a signal that has been aborted": {
    error: RangeError,
    words: REASON.message,
    provoke(scene) {
      const [a] = scene.pipe();
      const signal = AbortSignal.abort(REASON);
      return [
        ...waits(a, { signal }),
        () => a.send(1, { signal }),
        () => a.send_bytes(eight, 0, 8, { signal }),
      ];
    },
  },
  "a signal that is aborted meanwhile": {
    error: RangeError,
    words: REASON.message,
    async provoke(scene) {
      const [a, b] = scene.pipe();
      const stop = new AbortController();
      const { signal } = stop;
      const calls = waits(b, { signal });
      const [c] = scene.pipe();
      await fill(c);
      calls.push(
        () => c.send(1, { signal }),
        () => c.send_bytes(eight, 0, 8, { signal }),
      );
      const called = now(calls);
      await a.poll(); // another turn
      stop.abort(REASON);
      return called;
    },
  },
  "a value that cannot be cloned": {
    error: DOMException,
    words: "",
    provoke(scene) {
      const [a] = scene.pipe();
      return [() => a.send(() => {}), () => a.send({ deep: [Symbol()] })];
    },
  },
  "an endpoint elsewhere than in a plain object or array": {
    error: DOMException,
    words: "",
    provoke(scene) {
      const [a] = scene.pipe();
      const [b] = scene.pipe();
      return [
        () => a.send(new Map([[1, b]])),
        () => structuredClone(b),
        () => a.send(new Set([scene.queue()])),
      ];
    },
  },
  "send() that waits for room while the peer closes": {
    error: BrokenPipeError,
    words: "Cannot send",
    async provoke(scene) {
      const [a, b] = scene.pipe();
      await fill(a);
      const called = now(sends(a));
      b.close();
      return called;
    },
  },
  "sending to a peer that has closed": {
    error: BrokenPipeError,
    words: "Cannot send",
    provoke(scene) {
      const [a, b] = scene.pipe();
      b.close();
      return sends(a);
    },
  },
  "receiving at the end of file": {
    error: EOFError,
    words: "everything has been read",
    async provoke(scene) {
      const [a, b] = scene.pipe();
      await a.send(1);
      a.close();
      await b.recv();
      return receives(b);
    },
  },
  "receives that wait while the peer closes": {
    error: EOFError,
    words: "everything has been read",
    provoke(scene) {
      const [a, b] = scene.pipe();
      const called = now(receives(b));
      a.close();
      return called;
    },
  },
  "bytes beyond their buffer": {
    error: RangeError,
    words: "bytes",
    provoke(scene) {
      const [a] = scene.pipe();
      return [
        () => a.send_bytes(eight, -1),
        () => a.send_bytes(eight, 9),
        () => a.send_bytes(eight, 0, -1),
        () => a.send_bytes(eight, 4, 5),
        () => a.recv_bytes(-1),
        () => a.recv_bytes_into(eight, -1),
        () => a.recv_bytes_into(eight, 9),
      ];
    },
  },
  "recv_bytes() of a message that is longer than allowed": {
    error: OSError,
    words: "bad message length",
    async provoke(scene) {
      const [a, b] = scene.pipe();
      const [r, w] = scene.pipe(false);
      await a.send_bytes(eight);
      await w.send_bytes(eight);
      return [() => b.recv_bytes(7), () => r.recv_bytes(0)];
    },
  },
  "reading from an end that had a message that was too long": {
    error: OSError,
    words: "",
    async provoke(scene) {
      const [a, b] = scene.pipe();
      const [r, w] = scene.pipe(false);
      await a.send_bytes(eight);
      await w.send_bytes(eight);
      await b.recv_bytes(1).catch(() => {});
      await r.recv_bytes(1).catch(() => {});
      return [...receives(b), ...receives(r)];
    },
  },
  "recv_bytes_into() of a message that does not fit": {
    error: BufferTooShort,
    words: "",
    async provoke(scene) {
      const [a, b] = scene.pipe();
      await a.send_bytes(eight);
      return [async () => {
        const error = await b.recv_bytes_into(eight, 1).catch((error) => error);
        assertEquals(error.args, [eight]);
        throw error;
      }];
    },
  },
  "any call on a connection that is closed": {
    error: OSError,
    words: "handle is closed",
    provoke(scene) {
      const [a] = scene.pipe();
      a.close();
      return [...waits(a), ...sends(a), () => a.fileno()];
    },
  },
  "calls that wait while the connection is closed here": {
    error: OSError,
    words: "",
    provoke(scene) {
      const [a] = scene.pipe();
      const called = now(waits(a));
      a.close();
      return called;
    },
  },
  "calls that wait while the connection is handed over": {
    error: OSError,
    words: "",
    async provoke(scene) {
      const [a] = scene.pipe();
      const [via, other] = scene.pipe();
      const called = now(waits(a));
      await via.send(a);
      scene.open(await other.recv());
      return called;
    },
  },
  "sending on the end that receives": {
    error: OSError,
    words: "read-only",
    provoke: (scene) => sends(scene.pipe(false)[0]),
  },
  "receiving on the end that sends": {
    error: OSError,
    words: "write-only",
    provoke(scene) {
      const [, w] = scene.pipe(false);
      return [...receives(w), () => w.poll()];
    },
  },
  "a pipe that is told neither true nor false": {
    error: TypeError,
    words: "duplex must be true or false",
    provoke: () => [
      () => Pipe({ duplex: false } as Any),
      () => Pipe(1 as Any),
      () => Pipe(null as Any),
    ],
  },
  "a signal in the place of the options": {
    error: TypeError,
    words: "such as { signal }",
    provoke(scene) {
      const [a, b] = scene.pipe();
      const { signal } = new AbortController() as Any;
      return [
        () => a.send(1, signal),
        () => b.recv(signal),
        () => b.recv_bytes(1, signal),
        () => b.poll(0, signal),
        () => wait([b], 0, signal),
      ];
    },
  },
  "wait() for what is no connection": {
    error: TypeError,
    words: "Cannot wait",
    provoke: () => [
      () => wait([{}] as Any),
      () => wait([null] as Any),
      () => wait(5 as Any),
    ],
  },
  "a receive of the wrong kind": {
    error: TypeError,
    words: "recv",
    async provoke(scene) {
      const [a, b] = scene.pipe();
      const [c, d] = scene.pipe();
      await a.send(1);
      await c.send_bytes(eight);
      return [
        () => b.recv_bytes(),
        () => b.recv_bytes_into(eight),
        () => d.recv(),
      ];
    },
  },
  "sending a connection through itself or its peer": {
    error: TypeError,
    words: "Cannot",
    provoke(scene) {
      const [a, b] = scene.pipe();
      return [() => a.send(a), () => a.send([b]), () => b.send({ a })];
    },
  },
  "handing over what is closed": {
    error: OSError,
    words: "closed",
    provoke(scene) {
      const [a] = scene.pipe();
      const [b] = scene.pipe();
      const q = scene.queue();
      b.close();
      q.close();
      return [
        () => a.send(b),
        () => a.send([q]),
        () => pack(b),
        () => pack({ q }),
        () => scene.queue().put(b),
      ];
    },
  },
  "unpack() a second time, and of what is malformed": {
    error: TypeError,
    words: "Cannot unpack",
    provoke(scene) {
      const [message] = pack(scene.pipe()[0]);
      const [bad] = pack({}) as [object, unknown];
      scene.open(unpack<Conn>(message));
      return [
        () => unpack(message),
        () => unpack({ ...bad, endpoints: [{ kind: "none" }], places: [[0]] }),
      ];
    },
  },
};

for (const [name, row] of Object.entries(PIPES)) {
  test(`rejects: ${name}`, () => check(row), { needs: row.needs ?? [] });
}

const QUEUES: Record<string, Row> = {
  "a duration that is NaN or no number": {
    error: TypeError,
    words: "timeout",
    provoke(scene) {
      const q = scene.queue();
      return [
        ...gets(q, { timeout: NaN }),
        ...puts(q, { timeout: "1" }),
      ];
    },
  },
  "counts that are no integers": {
    error: TypeError,
    words: "integer",
    provoke(scene) {
      const q = scene.queue();
      return [
        () => new Queue(1.5),
        () => new JoinableQueue("1" as Any),
        () => q.get_many(1.5),
      ];
    },
  },
  "get_many() of less than one": {
    error: RangeError,
    words: "max",
    provoke(scene) {
      const q = scene.queue();
      return [() => q.get_many(0), () => q.get_many(-1)];
    },
  },
  "a signal that has been aborted": {
    error: RangeError,
    words: REASON.message,
    provoke(scene) {
      const q = scene.queue();
      const closed = scene.queue();
      closed.close();
      const signal = AbortSignal.abort(REASON);
      return [
        ...gets(q, { signal }),
        ...puts(q, { signal }),
        () => q.join({ signal }),
        () => closed.join_thread({ signal }),
      ];
    },
  },
  "a signal that is aborted meanwhile": {
    error: RangeError,
    words: REASON.message,
    async provoke(scene) {
      const [empty, full] = [scene.queue(), scene.queue(1)];
      const stop = new AbortController();
      const { signal } = stop;
      await full.put(0);
      const called = now([
        ...gets(empty, { signal }),
        ...puts(full, { signal }),
        () => full.join({ signal }),
      ]);
      await empty.qsize();
      stop.abort(REASON);
      return called;
    },
  },
  "an item that cannot be cloned": {
    error: DOMException,
    words: "",
    provoke(scene) {
      const q = scene.queue();
      return [
        () => q.put(() => {}),
        () => q.put_nowait([Symbol()]),
        () => q.put_many([() => {}]),
      ];
    },
  },
  "put() while full, at once or in time": {
    error: Full,
    words: "the queue is full",
    async provoke(scene) {
      const q = scene.queue(1);
      await q.put(0);
      return [
        ...puts(q, { timeout: 1 }),
        () => q.put(1, { block: false }),
        () => q.put_nowait(1),
        () => q.put(1, { timeout: -1 }),
      ];
    },
  },
  "get() while empty, at once or in time": {
    error: Empty,
    words: "the queue is empty",
    provoke(scene) {
      const q = scene.queue();
      return [
        ...gets(q, { timeout: 1 }),
        ...gets(q, { block: false }),
        () => q.get_nowait(),
        () => q.get({ timeout: -1 }),
      ];
    },
  },
  "a call on a handle that is closed": {
    error: OSError,
    words: "queue is closed",
    provoke(scene) {
      const q = scene.queue();
      q.close();
      return [
        ...gets(q),
        ...puts(q),
        () => q.put_nowait(1),
        () => q.shutdown(),
      ];
    },
  },
  "gets that wait while the handle is closed": {
    error: OSError,
    words: "queue is closed",
    provoke(scene) {
      const q = scene.queue();
      const called = now(gets(q));
      q.close();
      return called;
    },
  },
  "join_thread() before close()": {
    error: OSError,
    words: "not closed",
    provoke: (scene) => [() => scene.queue().join_thread()],
  },
  "task_done() once too many": {
    error: RangeError,
    words: "task_done() called too many times",
    async provoke(scene) {
      const q = scene.queue();
      await q.put(1);
      await q.task_done();
      return [() => q.task_done(), () => scene.queue().task_done()];
    },
  },
  "puts after shutdown(), and gets that find nothing": {
    error: ShutDown,
    words: "shut down",
    async provoke(scene) {
      const q = scene.queue();
      await q.put(1);
      await q.shutdown();
      assertEquals(await q.get(), 1);
      return [...puts(q), ...gets(q), () => q.get_nowait()];
    },
  },
  "gets after an immediate shutdown()": {
    error: ShutDown,
    words: "shut down",
    async provoke(scene) {
      const q = scene.queue();
      await q.put(1);
      await q.shutdown({ immediate: true });
      return [...puts(q), ...gets(q)];
    },
  },
  "calls that wait during shutdown()": {
    error: ShutDown,
    words: "shut down",
    async provoke(scene) {
      const [empty, full] = [scene.queue(), scene.queue(1)];
      await full.put(0);
      const called = now([...gets(empty), ...puts(full)]);
      await empty.shutdown();
      await full.shutdown();
      return called;
    },
  },
};

for (const [name, row] of Object.entries(QUEUES)) {
  queueTest(`rejects: ${name}`, () => check(row), { needs: row.needs ?? [] });
}

/** Ends a thread, and waits until an end that it had says so. */
async function ended(holder: Holder, conn: Conn): Promise<void> {
  await holder.terminate();
  await conn.poll(null);
}

test(
  "rejects: calls that wait while the peer's thread ends, and later ones",
  async () => {
    const scene = new Scene();
    const [a, b] = scene.pipe();
    const [c, d] = scene.pipe();
    const holder = new Holder();
    await holder.hold("ends", [b, d]);
    const received = now(receives(a));
    await fill(c);
    const sent = now(sends(c));
    await ended(holder, a);
    for (const call of [...received, ...receives(a)]) {
      await assertRejects(async () => await call(), EOFError);
    }
    for (const call of [...sent, ...sends(c), ...sends(a)]) {
      await assertRejects(async () => await call(), BrokenPipeError);
    }
    scene.close();
  },
  { needs: ["workers"] },
);

queueTest(
  "rejects: calls that wait while the owner's thread ends, and later ones",
  async () => {
    const scene = new Scene();
    const [a, b] = scene.pipe();
    const holder = new Holder();
    await holder.hold("end", b);
    await holder.make("empty", 0, true);
    await holder.make("full", 1, true);
    await holder.make("joined", 1, true);
    type Q = JoinableQueue<Any>;
    const empty = scene.open(await holder.give<Q>("empty"));
    const full = scene.open(await holder.give<Q>("full"));
    const joined = scene.open(await holder.give<Q>("joined"));
    await full.put(0);
    await joined.put(0);
    const putting = joined.put(1); // keeps join_thread() waiting
    joined.close();
    const called = now([
      ...gets(empty),
      ...puts(full),
      () => joined.join_thread(),
      () => putting,
    ]);
    const [join] = now([() => full.join()]);
    const stop = new AbortController();
    const aborted = joined.join_thread({ signal: stop.signal });
    await empty.qsize();
    stop.abort(REASON);
    await assertRejects(() => aborted, RangeError, REASON.message);
    await ended(holder, a);
    for (const call of called) {
      await assertRejects(async () => await call(), EOFError, "has ended");
    }
    await assertRejects(
      async () => await join!(),
      EOFError,
      "Cannot join: the thread that owns the queue has ended",
    );
    const late = [
      ...gets(empty),
      ...puts(empty),
      ...puts(full, { timeout: 1 }),
      () => empty.get_nowait(),
      () => empty.qsize(),
      () => empty.empty(),
      () => empty.full(),
      () => empty.join(),
      () => empty.task_done(),
      () => empty.shutdown(),
      () => joined.join_thread(),
      () => pack(empty),
    ];
    for (const call of late) {
      const what = String(call);
      await assertRejects(
        async () => await call(),
        EOFError,
        "has ended",
        what,
      );
    }
    scene.close();
  },
  { needs: ["workers"] },
);
