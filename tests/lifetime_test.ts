import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  BrokenPipeError,
  type Connection,
  EOFError,
  pack,
  Pipe,
  Queue,
} from "../mod.ts";
import { liveHolds, livePorts } from "../_runtime.ts";
import { Agent, PIPE_TASKS } from "./_agent.ts";
import { runChild } from "./_child.ts";
import { scale, spawn, spawnTask, test } from "./_harness.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

async function rest(conn: Connection<Any>): Promise<unknown[]> {
  const got: unknown[] = [];
  for await (const x of conn) got.push(x);
  return got;
}

const numbers = (to: number) => Array.from({ length: to }, (_, i) => i);

// --- Threads that end -----------------------------------------------------------------

for (const how of ["exit", "throw", "burst"]) {
  test(
    `posted means sent: a worker that ends by ${how} loses nothing`,
    async () => {
      for (let round = 0; round < scale(3); round++) {
        const [a, conn] = Pipe<Any>();
        const run = spawnTask("sendAndEnd", { conn, how }, {
          module: PIPE_TASKS,
        });
        assertEquals(await rest(a), numbers(100));
        await assertRejects(() => a.recv(), EOFError);
        await assertRejects(() => a.send(1), BrokenPipeError);
        a.close();
        await run.worker.exited;
      }
    },
    { needs: how === "throw" ? ["workers", "fatal errors"] : ["workers"] },
  );
}

test(
  "posted means sent: a worker that then computes for ever has sent it",
  async () => {
    const [a, conn] = Pipe<Any>();
    const words = new Int32Array(new SharedArrayBuffer(4));
    const run = spawnTask("sendAndEnd", { conn, how: "loop" }, {
      module: PIPE_TASKS,
    });
    for (let i = 0; i < 100; i++) assertEquals(await a.recv(), i);
    run.worker.postMessage({ words });
    assertEquals(await a.recv(), "looping");
    Atomics.store(words, 0, 1);
    const end = assertRejects(() => a.recv(), EOFError);
    await run.worker.terminate();
    await end;
    a.close();
  },
  { needs: ["workers", "shared"] },
);

test("a worker that is terminated counts as having closed", async () => {
  for (const use of ["never", "sent", "waiting"]) {
    const agent = new Agent();
    const ends: Connection<Any>[] = [];
    for (let i = 0; i < 5; i++) {
      const [a, b] = Pipe<Any>();
      ends.push(a);
      await agent.take(`${i}`, b);
      if (use !== "never") await agent.call(`${i}`, "send", i);
      if (use === "waiting") agent.call(`${i}`, "recv");
    }
    const waits = ends.map((end) => rest(end));
    const sends = ends.map((end) =>
      (async () => {
        while (true) await end.send(new ArrayBuffer(100_000));
      })().catch((error) => error)
    );
    await new Promise((done) => setTimeout(done, 10));
    await agent.worker.terminate();
    for (const [i, got] of (await Promise.all(waits)).entries()) {
      assertEquals(got, use === "never" ? [] : [i]);
    }
    for (const error of await Promise.all(sends)) {
      assert(error instanceof BrokenPipeError, String(error));
    }
    for (const end of ends) {
      assertEquals(await end.poll(), true);
      end.close();
    }
  }
}, { needs: ["workers"] });

const FIRST_WORD = new URL("./workers/first_word.ts", import.meta.url);

test("a worker that is terminated at its first word is noticed", async () => {
  for (let round = 0; round < scale(10); round++) {
    const [a, conn] = Pipe<Any>();
    const q = new Queue<string>();
    const worker = spawn(FIRST_WORD, { raw: true });
    worker.postMessage(...pack({ conn, q, then: "wait" }));
    assertEquals(await a.recv(), "word");
    await worker.terminate();
    await q.put("item"); // not for the worker, which had waited for one
    assertEquals(await q.get(), "item");
    await assertRejects(() => a.recv(), EOFError);
    await assertRejects(() => a.send(1), BrokenPipeError);
    a.close();
    q.close();
  }
}, { needs: ["workers"] });

test(
  "a worker that ends in the turn in which it got its ends is noticed",
  async () => {
    for (let round = 0; round < scale(5); round++) {
      const [a, conn] = Pipe<Any>();
      const q = new Queue<string>();
      const worker = spawn(FIRST_WORD, { raw: true });
      worker.postMessage(...pack({ conn, q, then: "leave" }));
      await assertRejects(() => a.recv(), EOFError);
      await worker.terminate();
      a.close();
      q.close();
    }
  },
  { needs: ["workers"] },
);

// What was packed, and is not posted, would be closed with its message.
const packed: unknown[] = [];

/** An end, and the raw port of its other end. */
function rawPeer(): [Connection<Any>, MessagePort] {
  const [a, b] = Pipe<Any>();
  const [message] = pack(b) as [Any, unknown];
  packed.push(message);
  return [a, message.endpoints[0].ports[0]];
}

/** What a browser's thread says before its lock is held. */
const hello = (proof: string) => ["ipc:hello", "nobody", self.origin, proof];

test(
  "a proof of life is looked at wherever the end goes, and nothing else is",
  async () => {
    const real = globalThis.fetch;
    const looked = new Set<string>();
    globalThis.fetch = (address) => {
      looked.add(`${address}`);
      return real(address);
    };
    const agent = new Agent();
    try {
      const proof = URL.createObjectURL(new Blob());
      const address = `${self.origin}/not-to-be-asked-for`;
      const [[a, alive], [c, forger]] = [rawPeer(), rawPeer()];
      forger.postMessage(hello(address));
      alive.postMessage(hello(proof));
      await Promise.all([a.poll(0), c.poll(0)]);
      while (!looked.has(proof)) await new Promise((done) => setTimeout(done));
      await agent.take("moved", a);
      const end = agent.call("moved", "recv");
      URL.revokeObjectURL(proof);
      const { name } = await assertRejects(() => end) as Error;
      assertEquals(name, "EOFError");
      assert(!looked.has(address));
      c.close();
      for (const port of [alive, forger]) port.close();
    } finally {
      globalThis.fetch = real;
      await agent.end();
    }
  },
  { needs: ["workers", "proofs of life"] },
);

test(
  "an end may close while its peer's thread is found to have ended",
  async () => {
    const agent = new Agent();
    const ends: Connection<Any>[] = [];
    for (let i = 0; i < 8; i++) {
      const [a, b] = Pipe<Any>();
      await agent.take(`${i}`, b);
      await a.poll(0);
      ends.push(a);
    }
    await agent.worker.terminate();
    for (const end of ends) {
      end.close();
      await new Promise((done) => setTimeout(done, 3));
    }
  },
  { needs: ["workers"] },
);

test("posted means sent, in the first moment of a worker too", async () => {
  for (let round = 0; round < scale(10); round++) {
    const [a, conn] = Pipe<Any>();
    const q = new Queue<string>();
    const worker = spawn(FIRST_WORD, { raw: true });
    worker.postMessage(...pack({ conn, q, then: "end" }));
    assertEquals(await rest(a), ["word"]);
    assertEquals(await q.get_nowait(), "item");
    assertEquals(await q.get_nowait(), "more");
    a.close();
    q.close();
    await worker.terminate();
  }
}, { needs: ["workers"] });

test(
  "a worker that vanishes is noticed by an end that nobody had used",
  async () => {
    const [a, conn] = Pipe<Any>();
    const [b, unused] = Pipe<Any>();
    const run = spawnTask("sayAndVanish", { conn, unused }, {
      module: PIPE_TASKS,
    });
    await run.result;
    await run.worker.exited;
    assertEquals(await a.recv(), "bye");
    await assertRejects(() => a.recv(), EOFError);
    await assertRejects(() => b.recv(), EOFError);
    await assertRejects(() => b.send(1), BrokenPipeError);
    a.close();
    b.close();
  },
  { needs: ["workers"] },
);

test(
  "an end that travelled to a worker through another one is closed with it",
  async () => {
    const [one, two] = [new Agent(), new Agent()];
    const [x, y] = Pipe<Any>();
    const [a, b] = Pipe<Any>();
    await one.take("out", x);
    await two.take("in", y);
    await one.take("b", b);
    await one.order("moveTo", "b", { to: "out" });
    await two.order("receive", "in", { to: "b" });
    await two.call("b", "send", 1);
    assertEquals(await a.recv(), 1);
    await two.worker.terminate();
    await assertRejects(() => a.recv(), EOFError);
    a.close();
    await one.end();
  },
  { needs: ["workers"] },
);

// --- Nothing is left --------------------------------------------------------------------

test(
  "10,000 pipes that were opened, used and closed leave nothing",
  async () => {
    for (let i = 0; i < 10_000; i++) {
      const [a, b] = Pipe<Any>();
      if (i % 4) {
        await a.send(i);
        assertEquals(await b.recv(), i);
      }
      if (i % 4 === 2) b.recv().catch(() => {});
      if (i % 4 === 3) await b.poll(-1);
      if (i % 2) a.close();
      b.close();
      a.close();
    }
    await new Promise((done) => setTimeout(done, 10));
    assertEquals([livePorts(), liveHolds()], [0, 0]);
  },
  { deadline: 40_000 },
);

test("an end whose other end closes, with nothing on its way, has no port from then on", async () => {
  for (const answered of [false, true]) {
    const [a, b] = Pipe<Any>();
    const pending = b.recv();
    await a.send(1);
    assertEquals(await pending, 1);
    if (answered) {
      await b.send(2);
      assertEquals(await a.recv(), 2);
    }
    const waiting = b.recv();
    a.close();
    assertEquals(livePorts(), 0);
    await assertRejects(() => waiting, EOFError);
    assertEquals([await b.poll(), b.closed], [true, false]);
    await assertRejects(() => b.send(3), BrokenPipeError);
    b.close();
  }
});

test("64 KiB messages stream through without piling up", async () => {
  const [a, conn] = Pipe<Any>();
  const run = spawnTask<number>("drainBytes", { conn }, { module: PIPE_TASKS });
  const count = scale(3000); // SCALE=22 makes it 4 GiB
  const buffer = new Uint8Array(65_536);
  const memory = () => {
    const { process } = globalThis as Any;
    return process?.memoryUsage().rss ?? 0;
  };
  for (let i = 0; i < 500; i++) await a.send_bytes(buffer);
  const before = memory();
  for (let i = 500; i < count; i++) await a.send_bytes(buffer);
  const grown = memory() - before;
  a.close();
  assertEquals(await run.result, count * 65_536);
  assert(grown < 150 << 20, `grown by ${grown >> 20} MiB`);
}, { needs: ["workers"], deadline: 120_000 });

// --- Programs that end by themselves -------------------------------------------------------

const CHILD = new URL("./workers/pipe_child.ts", import.meta.url);

test("a program with idle endpoints ends by itself", async () => {
  assertEquals(await runChild(CHILD, ["idle"]), "end\n");
}, { needs: ["processes"] });

for (const classes of ["jsdom", "happy-dom"]) {
  test(`pipes work where ${classes} has put classes of its own`, async () => {
    const file = new URL("./workers/other_classes.ts", import.meta.url);
    assertEquals(await runChild(file, [classes]), "end\n");
  }, { needs: ["processes"] });
}

for (const call of ["recv", "poll", "wait", "send", "timeout"]) {
  test(`a ${call} that waits keeps a program alive`, async () => {
    assertEquals(await runChild(CHILD, [call]), "end\nreceived\n");
  }, { needs: ["processes"] });
}

test("a connection that is garbage-collected closes itself", async () => {
  assertEquals(
    await runChild(CHILD, ["garbage"], { gc: true }),
    `kept\nkept while it waits\nEOFError\nsent\n${"EOFError\n".repeat(4)}end\n`,
  );
}, { needs: ["processes"] });

test("a put that waits keeps the endpoints in its item open", async () => {
  assertEquals(
    await runChild(CHILD, ["garbage in a put"], { gc: true }),
    "first\nkept\nend\n",
  );
}, { needs: ["processes"] });

test("an end that lies unread in one that was cloned stays open", async () => {
  assertEquals(
    await runChild(CHILD, ["garbage of a clone"], { gc: true }),
    "kept\nend\n",
  );
}, { needs: ["processes"] });

test(
  "an end that has come in, is packed again and dropped, is closed",
  async () => {
    assertEquals(
      await runChild(CHILD, ["garbage that came in"], { gc: true }),
      "EOFError\nend\n",
    );
  },
  { needs: ["processes"] },
);

test(
  "cancel_join_thread() lets a program end, also before a timeout",
  async () => {
    assertEquals(await runChild(CHILD, ["cancel_join_thread"]), "end\n");
  },
  { needs: ["processes"] },
);
