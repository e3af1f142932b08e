import {
  assert,
  assertEquals,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { Connection, EOFError, OSError, Pipe } from "../mod.ts";
import { liveHolds } from "../_runtime.ts";
import { Agent, PIPE_TASKS } from "./_agent.ts";
import { withClock } from "./_clock.ts";
import { scale, spawnTask, test, wait } from "./_harness.ts";
import { uncounted } from "./_pending.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

async function withPipes(
  body: (pipes: Any) => Promise<void>,
  count = 3,
  duplex = true,
): Promise<void> {
  const pipes = Array.from({ length: count }, () => Pipe<Any>(duplex));
  try {
    await body(pipes);
  } finally {
    for (const end of pipes.flat()) end.close();
  }
}

const later = (ms = 5) => new Promise((done) => setTimeout(done, ms));

/** A promise, and whether it has settled. */
function watched<T>(promise: Promise<T>): { promise: Promise<T>; is: boolean } {
  const state = { promise, is: false };
  promise.then(() => state.is = true, () => state.is = true);
  return state;
}

test("poll() is true for a message, an empty one too, and consumes nothing", async () => {
  await withPipes(async ([[a, b]]) => {
    assertEquals(await b!.poll(), false);
    await a!.send_bytes(new Uint8Array(0));
    for (let i = 0; i < 5; i++) {
      assertEquals(await b!.poll(), true);
      assertEquals(await b!.poll(null), true);
      assertEquals(await b!.poll(10), true);
    }
    assertEquals((await b!.recv_bytes()).length, 0);
    assertEquals(await b!.poll(), false);
    await a!.send(undefined);
    assertEquals(await b!.poll(), true);
    assertEquals(await b!.recv(), undefined);
  }, 1);
});

test("poll() takes its time as timeouts go", async () => {
  await withPipes(async ([[a, b]]) => {
    for (const now of [0, -1, -0, -Infinity, -(2 ** 40)]) {
      assertEquals(await b!.poll(now), false);
    }
    assertEquals(await b!.poll(1), false);
    assertEquals(await b!.poll(0.5), false);
    for (const bad of [NaN, "1", "", {}, [], true, 1n, Symbol()] as Any[]) {
      await assertRejects(() => b!.poll(bad), TypeError);
    }
    for (const ever of [null, Infinity, 2 ** 31, 2 ** 31 + 5, 2 ** 53]) {
      const polled = watched(b!.poll(ever));
      await later();
      assert(!polled.is, `poll(${ever}) ended early`);
      await a!.send(ever);
      assertEquals(await polled.promise, true);
      await b!.recv();
    }
    assertEquals(await b!.poll(undefined), false, "no argument: at once");
  }, 1);
  assertEquals(liveHolds(), 0);
});

// Where nothing is transferred, ports may need timers, too.
test("poll() also waits for longer than a timer can count", async () => {
  const [a, b] = Pipe<Any>();
  await withClock(async (clock) => {
    const polled = b.poll(2 ** 31 + 6);
    assert(clock.fire(2 ** 31 - 1));
    assertEquals(clock.pending(), [7]);
    clock.fire(7);
    assertEquals(await polled, false);
  });
  a.close();
  b.close();
}, { needs: ["transfer"] });

test("poll() is true at the end of file, and wakes for it", async () => {
  await withPipes(async ([[a, b], [c, d]]) => {
    a!.send(1);
    a!.close();
    assertEquals(await b!.poll(), true);
    await b!.recv();
    for (let i = 0; i < 3; i++) assertEquals(await b!.poll(), true);
    await assertRejects(() => b!.recv(), EOFError);
    const polled = [d!.poll(null), d!.poll(60_000), d!.poll(null)];
    await later();
    c!.close();
    assertEquals(await Promise.all(polled), [true, true, true]);
  }, 2);
});

test("poll() that waits does not take from a receive that waits", async () => {
  await withPipes(async ([[a, b]]) => {
    const received = b!.recv();
    const polled = watched(b!.poll(null));
    await a!.send(1);
    assertEquals(await received, 1);
    await later();
    if (!polled.is) await a!.send(2);
    assertEquals(await polled.promise, true);
  }, 1);
});

test(
  "poll() counts what has been delivered: pipe 1 was sent before pipe 2",
  async () => {
    const rounds = scale(1500);
    const [one, oneThere] = Pipe<Any>();
    const [two, twoThere] = Pipe<Any>();
    const run = spawnTask("firstOneThenTwo", {
      one: oneThere,
      two: twoThere,
      rounds,
    }, { module: PIPE_TASKS });
    for (let i = 0; i < rounds; i++) {
      assertEquals(await two.recv(), i);
      if (i % 2) assertEquals(await one.poll(), true, `round ${i}`);
      else assertEquals(await wait([two, one], 0), [one], `round ${i}`);
      assertEquals(await one.recv(), i);
      two.send("next");
    }
    await run.result;
    one.close();
    two.close();
  },
  { needs: ["workers"] },
);

test(
  "poll() on a fresh end counts what had been delivered before",
  async () => {
    for (let i = 0; i < scale(5); i++) {
      const [one, oneThere] = Pipe<Any>();
      const [two, twoThere] = Pipe<Any>();
      const run = spawnTask("firstOneThenTwo", {
        one: oneThere,
        two: twoThere,
        rounds: 1,
      }, { module: PIPE_TASKS });
      await two.recv();
      assertEquals(await one.poll(), true);
      two.send("next");
      await run.result;
      one.close();
      two.close();
    }
  },
  { needs: ["workers"] },
);

test(
  "poll() and wait() that time out count what has been delivered",
  async () => {
    const words = new Int32Array(new SharedArrayBuffer(4));
    const [a, conn] = Pipe<Any>();
    const run = spawnTask("answerAndFlag", { conn, words }, {
      module: PIPE_TASKS,
    });
    await a.send(1);
    await a.recv();
    for (let i = 2; i < 2 + scale(20); i++) {
      await a.send(i);
      const looked = i % 2 ? a.poll(1) : wait([a], 1).then((ready) => ready[0]);
      const due = performance.now() + 2;
      // The timer is due before this thread can dispatch the message.
      while (Atomics.load(words, 0) !== i || performance.now() < due);
      assert(await looked, `round ${i}`);
      assertEquals(await a.recv(), i);
    }
    a.close();
    await run.result;
  },
  { needs: ["workers", "shared"] },
);

test(
  "wait() that times out counts what was delivered after it had looked",
  async () => {
    const words = new Int32Array(new SharedArrayBuffer(4));
    const [a, conn] = Pipe<Any>();
    const run = spawnTask("answerAndFlag", { conn, words }, {
      module: PIPE_TASKS,
    });
    await a.send(1);
    await a.recv();
    for (let i = 2; i < 5;) {
      const due = performance.now() + 52;
      const looked = watched(wait([a], 50));
      await later(); // until it has looked
      if (looked.is) continue; // a busy machine: it is over already
      const sent = a.send(i);
      // The timer is due before this thread can dispatch the answer.
      while (Atomics.load(words, 0) !== i || performance.now() < due);
      assertEquals((await looked.promise).length, 1, `round ${i}`);
      await sent;
      assertEquals(await a.recv(), i++);
    }
    a.close();
    await run.result;
  },
  { needs: ["workers", "shared"] },
);

test("wait() tells those that are ready, in the given order", async () => {
  await withPipes(async (pipes) => {
    const [[a1, b1], [a2, b2], [a3, b3]] = pipes as Any;
    assertEquals(await wait([b1, b2, b3], 0), []);
    assertEquals(await wait([b1, b2, b3], -5), []);
    assertEquals(await wait([b1, b2, b3], 1), []);
    a3.send(1);
    a1.send(1);
    for (const timeout of [0, 100, null, undefined, Infinity]) {
      const ready = await wait([b3, b2, b1], timeout);
      assertEquals(ready.length, 2);
      assertStrictEquals(ready[0], b3);
      assertStrictEquals(ready[1], b1);
    }
    await b3.recv();
    assertStrictEquals((await wait([b1, b2, b3]))[0], b1);
    await b1.recv();
    a2.close();
    const ready = await wait([b1, b2, b3]);
    assertEquals(ready.length, 1);
    assertStrictEquals(ready[0], b2);
  });
});

test("wait() tells all that are ready, also beside one that always is", async () => {
  await withPipes(async (pipes) => {
    const [[a1, b1], [a2, b2], [a3, b3]] = pipes as Any;
    for (let i = 0; i < 10; i++) a1.send(i);
    assertEquals(await b1.poll(null), true);
    await a2.send("not seen yet");
    a3.close();
    for (const timeout of [undefined, 60_000, 0]) {
      assertEquals((await wait([b3, b2, b1], timeout)).length, 3);
      await b1.recv();
    }
  });
});

test("wait() wakes for a message, an end of file, and on timeout", async () => {
  await withPipes(async (pipes) => {
    const [[a1, b1], [a2, b2]] = pipes as Any;
    const both = watched(wait([b1, b2]));
    await later();
    assert(!both.is);
    await a2.send(1);
    assertEquals((await both.promise).length, 1);
    await b2.recv();
    const again = wait([b1, b2], 60_000);
    await later();
    a1.close();
    assertStrictEquals((await again)[0], b1);
    assertEquals(await wait([b2], 2), []);
    assertEquals(liveHolds(), 0);
    const long = watched(wait([b2], 2 ** 31 + 1));
    await later();
    assert(!long.is);
    a2.send(1);
    await long.promise;
  });
});

test("wait() goes on when another call has taken the message", async () => {
  await withPipes(async ([[a, b]]) => {
    // At once: before those that wait are told of the next message.
    const recv = uncounted(Connection.prototype.recv);
    const reader = (async () => {
      for (let i = 0; i < 3; i++) assertEquals(await recv.call(b!), i);
    })();
    const ready = wait([b!]);
    await later(); // until it has looked
    // The first alone; the others arrive at once: one is left when the wait wakes.
    for (let i = 0; i < 3; i++) a!.send(i);
    await reader;
    a!.send(3);
    assertEquals((await ready).length, 1);
    assertEquals(await b!.recv(), 3);
  }, 1);
  assertEquals(liveHolds(), 0);
});

test("wait() takes any iterable, and reports a connection once", async () => {
  await withPipes(async (pipes) => {
    const [[a1, b1], [, b2]] = pipes as Any;
    await a1.send(1);
    const list = function* () {
      yield b1;
      yield b2;
      yield b1;
    };
    for (const given of [list(), new Set([b1, b2]), [b1, b1, b2, b1]]) {
      const ready = await wait(given as Any);
      assertEquals(ready.length, 1);
      assertStrictEquals(ready[0], b1);
    }
    assertEquals(await wait(new Map().values(), 1), []);
    assertEquals(await wait([], 1), []);
    const stop = new AbortController();
    const forever = watched(wait([], null, { signal: stop.signal }));
    await later();
    assert(!forever.is);
    stop.abort();
    await assertRejects(() => forever.promise);
  });
});

test("wait() refuses what is no connection, closed ones, bad timeouts", async () => {
  await withPipes(async (pipes) => {
    const [[a1, b1], [a2, b2]] = pipes as Any;
    await a1.send(1);
    for (const bad of [null, undefined, 1, {}, b1, () => {}] as Any[]) {
      await assertRejects(() => wait(bad), TypeError);
    }
    for (const bad of [null, 1, {}, "text", { recv() {} }] as Any[]) {
      await assertRejects(() => wait([b1, bad]), TypeError);
    }
    for (const bad of ["1", NaN, {}, 1n] as Any[]) {
      await assertRejects(() => wait([b1], bad), TypeError);
    }
    await assertRejects(() => wait([b1], 0, "options" as Any), TypeError);
    for (const signal of [{}, { aborted: false }]) {
      await assertRejects(() => wait([b1], 0, { signal } as Any), TypeError);
    }
    b2.close();
    await assertRejects(() => wait([b1, b2]), OSError, "handle is closed");
    await assertRejects(
      () => wait([b2], "bad" as Any),
      OSError,
      "handle is closed",
    );
    a2.close();
    await assertRejects(
      () =>
        wait((function* () {
          yield b1;
          throw new RangeError("Mine");
        })()),
      RangeError,
      "Mine",
    );
  });
});

test("wait() on a write-only end: ready when its reader is gone", async () => {
  await withPipes(
    async (pipes) => {
      const [[r1, w1], [, w2]] = pipes as Any;
      assertEquals(await wait([w1, w2], 0), []);
      const gone = watched(wait([w1, w2]));
      await later();
      assert(!gone.is);
      r1.close();
      assertStrictEquals((await gone.promise)[0], w1);
      assertStrictEquals((await wait([w2, w1], 0))[0], w1);
    },
    2,
    false,
  );
});

test("wait() rejects when one closes, is handed over, or on abort", async () => {
  for (const how of ["close", "move", "abort"]) {
    await withPipes(async (pipes) => {
      const [[, b1], [, b2], [c, d]] = pipes as Any;
      const stop = new AbortController();
      const reason = new Error("Stop");
      const waits = [
        wait([b1, b2], null, { signal: stop.signal }),
        wait([b1, b2], 60_000, { signal: stop.signal }),
        b2.poll(null, { signal: stop.signal }),
      ];
      const outcomes = Promise.allSettled(waits);
      await later();
      if (how === "close") b2.close();
      else if (how === "move") {
        await c.send(b2);
        (await d.recv()).close();
      } else stop.abort(reason);
      const said: string[] = [];
      for (const outcome of await outcomes) {
        const { reason: got } = outcome as PromiseRejectedResult;
        if (how === "abort") assertStrictEquals(got, reason);
        else assert(got instanceof OSError, String(got));
        said.push(got.message.replace(/:.*/, ""));
      }
      if (how !== "abort") {
        assertEquals(said, ["Cannot wait", "Cannot wait", "Cannot poll"]);
      }
      if (how !== "move") assertEquals(liveHolds(), 0);
    });
  }
  await withPipes(async ([[a, b]]) => {
    await a!.send(1);
    const signal = AbortSignal.abort("reason");
    for (const timeout of [0, null]) {
      const caught = await wait([b!], timeout, { signal }).catch((e) => e);
      assertEquals(caught, "reason");
    }
  }, 1);
});

test("wait() leaves nothing on the connections", async () => {
  await withPipes(async (pipes) => {
    const [[a1, b1], [, b2]] = pipes as Any;
    for (let i = 0; i < 500; i++) {
      const ready = wait([b1, b2], i % 2 ? null : 60_000);
      a1.send(i);
      assertEquals((await ready).length, 1);
      await b1.recv();
    }
    assertEquals(liveHolds(), 0);
  }, 2);
});

test(
  "wait() serves messages of several workers, and their deaths",
  async () => {
    const agents = [new Agent(), new Agent(), new Agent()];
    const ends: Connection<Any>[] = [];
    for (const agent of agents) {
      const [a, b] = Pipe<Any>();
      ends.push(a);
      await agent.take("end", b);
    }
    for (const [i, agent] of agents.entries()) {
      const ready = wait(ends);
      await agent.call("end", "send", i);
      assertStrictEquals((await ready)[0], ends[i]);
      assertEquals(await ends[i]!.recv(), i);
    }
    let open = [...ends];
    const terminated = agents.map((agent) => agent.worker.terminate());
    while (open.length > 0) {
      const ready = await wait(open);
      for (const end of ready) {
        await assertRejects(() => end.recv(), EOFError);
        end.close();
      }
      open = open.filter((end) => !ready.includes(end));
    }
    await Promise.all(terminated);
  },
  { needs: ["workers"] },
);

test("poll() and wait() that do not wait reject when aborted or closed while they look", async () => {
  const [a, b] = Pipe<Any>();
  const stop = new AbortController();
  const reason = new RangeError("Aborted");
  const looks = [
    b.poll(0, { signal: stop.signal }),
    wait([b], 0, { signal: stop.signal }),
  ];
  stop.abort(reason);
  for (const look of looks) {
    assertStrictEquals(await look.catch((error) => error), reason);
  }
  const closes = [b.poll(0), wait([b], 0)];
  b.close();
  for (const look of closes) await assertRejects(() => look, OSError, "closed");
  a.close();
});
