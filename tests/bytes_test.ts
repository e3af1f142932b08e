import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
} from "@std/assert";
import { PIPE_TASKS } from "./_agent.ts";
import { Random, scale, seed, spawnTask, test } from "./_harness.ts";
import { local } from "./_local.ts";
import { builtin } from "./_runtime.ts";
import {
  BrokenPipeError,
  BufferTooShort,
  type BytesLike,
  type Connection,
  EOFError,
  OSError,
  Pipe,
} from "../mod.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

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

const bytes = (...list: number[]) => new Uint8Array(list);

/** All the ways to hold the bytes 1, 2, 3, 4. */
function holders(): [string, BytesLike][] {
  const around = bytes(9, 9, 1, 2, 3, 4, 9, 9);
  const shared = new SharedArrayBuffer(4);
  new Uint8Array(shared).set([1, 2, 3, 4]);
  const list: [string, BytesLike][] = [
    ["Uint8Array", bytes(1, 2, 3, 4)],
    ["ArrayBuffer", bytes(1, 2, 3, 4).buffer],
    ["SharedArrayBuffer", shared],
    ["view of shared memory", new Int8Array(shared)],
    ["subarray", around.subarray(2, 6)],
    ["DataView", new DataView(around.buffer, 2, 4)],
    ["Uint16Array", new Uint16Array(around.buffer, 2, 2)],
    ["Uint8ClampedArray", new Uint8ClampedArray(around.buffer, 2, 4)],
    ["Float32Array", new Float32Array(bytes(1, 2, 3, 4).buffer)],
  ];
  const { Buffer } = globalThis as Any;
  const pooled = Buffer ??
    (globalThis as Any).process?.getBuiltinModule?.("node:buffer").Buffer;
  if (pooled) list.push(["Buffer", pooled.from([1, 2, 3, 4])]);
  const resizable = new (ArrayBuffer as Any)(4, { maxByteLength: 8 });
  new Uint8Array(resizable).set([1, 2, 3, 4]);
  list.push(["resizable", resizable]);
  list.push(["view of resizable", new Uint8Array(resizable)]);
  return list;
}

test("send_bytes() takes from a subclass of Uint8Array no more than its bytes", () =>
  withPipe(async (a, b) => {
    // As Node's Buffer: parts of one large buffer, and slice() copies nothing.
    class Pooled extends Uint8Array<ArrayBuffer> {
      override slice(start?: number, end?: number): Any {
        return this.subarray(start, end);
      }
    }
    const pool = new ArrayBuffer(128 * 1024);
    for (const size of [0, 64, 200, 4096, 9000, 70_000]) {
      const source = new Pooled(pool, 8, size).fill(size % 251);
      const expected = new Uint8Array(size).fill(size % 251);
      const sent = [a.send_bytes(source), a.send_bytes(source)]; // alone, in company
      source.fill(1);
      await Promise.all(sent);
      for (let i = 0; i < 2; i++) {
        const received = await b.recv_bytes();
        assertEquals(received, expected);
        assertEquals(received.buffer.byteLength, size);
      }
    }
    assertEquals(pool.byteLength, 128 * 1024);
  }));

test("send_bytes() takes whole buffers of any size as they are at the call", () =>
  withPipe(async (a, b) => {
    const sizes = [1000, 3000, 20_000, 70_000, 1 << 20, 9 << 20, 20_000, 3000];
    const target = new Uint8Array(9 << 20);
    let fill = 0;
    for (const size of sizes) {
      const whole = new Uint8Array(size);
      const part = new Uint8Array(size + 8).subarray(4, 4 + size);
      for (let i = 0; i < 12; i++) {
        const source = i % 4 === 3 ? part : whole;
        const want = ++fill % 251;
        const sent = a.send_bytes(source.fill(want));
        source.fill(255);
        const into = i % 3 > 0; // its buffer may come back, and be used again
        const got = into
          ? target.subarray(0, await b.recv_bytes_into(target))
          : await b.recv_bytes();
        await sent;
        assertEquals(got.length, size);
        assert(got.every((byte) => byte === want), `${size} bytes, ${i}`);
        if (!into) assertEquals(got.buffer.byteLength, size);
        assertEquals(source.length, size);
      }
    }
  }));

test("send_bytes() takes any buffer, and leaves it as it is", async () => {
  await withPipe(async (a, b) => {
    for (const burst of [false, true]) {
      for (const [name, holder] of holders()) {
        if (burst) a.send_bytes(bytes(0));
        await a.send_bytes(holder);
        await a.send_bytes(holder, 1, 2);
        if (burst) await b.recv_bytes();
        assertEquals([...await b.recv_bytes()], [1, 2, 3, 4], name);
        assertEquals([...await b.recv_bytes()], [2, 3], name);
        assertEquals(holder.byteLength, 4, name);
      }
    }
  });
}, { needs: ["shared"] });

test("recv_bytes_into() writes into any buffer", async () => {
  await withPipe(async (a, b) => {
    for (const [name, holder] of holders()) {
      await a.send_bytes(bytes(7, 8));
      assertEquals(await b.recv_bytes_into(holder, 1), 2);
      await a.send_bytes(holder);
      assertEquals([...await b.recv_bytes()], [1, 7, 8, 4], name);
    }
    // Bytes count, whatever the elements are.
    const wide = new Int32Array(2);
    await a.send_bytes(bytes(1, 2, 3, 4, 5));
    assertEquals(await b.recv_bytes_into(wide, 2), 5);
    assertEquals([...new Uint8Array(wide.buffer)], [0, 0, 1, 2, 3, 4, 5, 0]);
  });
}, { needs: ["shared"] });

test("send_bytes() checks its arguments, and sends nothing then", async () => {
  await withPipe(async (a, b) => {
    const buffer = bytes(1, 2, 3, 4);
    const range: [number, Any, string][] = [
      [-1, undefined, "offset is negative"],
      [-1, -1, "offset is negative"],
      [5, undefined, "buffer length < offset"],
      [5, -1, "buffer length < offset"],
      [2 ** 53, 1, "buffer length < offset"],
      [0, -1, "size is negative"],
      [4, -1, "size is negative"],
      [0, 5, "buffer length < offset + size"],
      [3, 2, "buffer length < offset + size"],
      [4, 1, "buffer length < offset + size"],
    ];
    for (const [offset, size, words] of range) {
      await assertRejects(
        () => a.send_bytes(buffer, offset, size),
        RangeError,
        words,
        `${offset}, ${size}`,
      );
    }
    const types: Any[][] = [
      ["text"],
      [[1, 2]],
      [null],
      [undefined],
      [1],
      [{ byteLength: 4 }],
      [buffer, 1.5],
      [buffer, NaN],
      [buffer, "1"],
      [buffer, null],
      [buffer, Infinity],
      [buffer, 1n],
      [buffer, 0, 1.5],
      [buffer, 0, "1"],
      [buffer, 0, NaN],
      [buffer, 0, Infinity],
      [buffer, 0, 1, "options"],
      [buffer, 0, 1, { signal: "signal" }],
    ];
    for (const args of types) {
      await assertRejects(
        () => (a.send_bytes as Any)(...args),
        TypeError,
        undefined,
        String(args),
      );
    }
    assertEquals(await b.poll(), false);
    // The edges are legal.
    await a.send_bytes(buffer, 4);
    await a.send_bytes(buffer, 4, 0);
    await a.send_bytes(buffer, 0, 0);
    await a.send_bytes(buffer, 3, null);
    await a.send_bytes(buffer, 0, 4);
    await a.send_bytes(buffer, -0, 4);
    const lengths = [];
    for (let i = 0; i < 6; i++) lengths.push((await b.recv_bytes()).length);
    assertEquals(lengths, [0, 0, 0, 1, 4, 4]);
  });
});

test("buffers of another realm are buffers", async () => {
  const vm = builtin<{ runInNewContext(code: string): Any }>("node:vm");
  await withPipe(async (a, b) => {
    for (const kind of ["ArrayBuffer", "SharedArrayBuffer"]) {
      const buffer = vm.runInNewContext(`new ${kind}(3)`);
      new Uint8Array(buffer).set([1, 2, 3]);
      await a.send_bytes(buffer);
      new Uint8Array(buffer).fill(0);
      assertEquals(await b.recv_bytes_into(buffer), 3);
      assertEquals([...new Uint8Array(buffer)], [1, 2, 3]);
    }
  });
}, { needs: ["processes"] });

test("send_bytes() of a detached buffer is a TypeError", async () => {
  await withPipe(async (a, b) => {
    const buffer = new ArrayBuffer(4);
    const views = [new Uint8Array(buffer), new DataView(buffer)];
    structuredClone(buffer, { transfer: [buffer] });
    const why = "a buffer or a view of one is required";
    for (const what of [buffer, ...views]) {
      await assertRejects(() => a.send_bytes(what), TypeError, why);
      await assertRejects(() => b.recv_bytes_into(what), TypeError, why);
    }
    assertEquals(await b.poll(), false);
  });
}, { needs: ["transfer"] });

test("a view that its buffer has become too short for is a TypeError", async () => {
  await withPipe(async (a, b) => {
    const buffer = new ArrayBuffer(8, { maxByteLength: 8 });
    const views = [new Uint16Array(buffer, 4, 2), new DataView(buffer, 4, 2)];
    const none = new Uint8Array(buffer, 2, 0); // of nothing, but in bounds
    buffer.resize(2);
    for (const view of views) {
      await assertRejects(() => a.send_bytes(view), TypeError, "Cannot send");
      await assertRejects(
        () => b.recv_bytes_into(view),
        TypeError,
        "Cannot receive",
      );
    }
    await a.send_bytes(none);
    assertEquals((await b.recv_bytes()).length, 0);
    // Nothing fits anywhere, also behind the end of what is left.
    buffer.resize(8);
    const waiting = b.recv_bytes_into(buffer, 4);
    buffer.resize(2);
    await a.send_bytes(none);
    assertEquals(await waiting, 0);
  });
});

test("send_bytes() copies before it returns", async () => {
  await withPipe(async (a, b) => {
    for (const length of [1, 100, 3000, 5000, 100_000]) {
      const buffer = new Uint8Array(length).fill(1);
      const calls = [];
      for (let i = 1; i <= 4; i++) {
        buffer.fill(i);
        calls.push(a.send_bytes(buffer));
      }
      buffer.fill(99);
      for (let i = 1; i <= 4; i++) {
        const got = await b.recv_bytes();
        assert(got.length === length && got.every((x) => x === i));
      }
      await Promise.all(calls);
    }
  });
});

test("bytes of any value and length arrive, alone and in a burst", async () => {
  const lengths = [0, 1, 2, 3, 4, 5, 127, 128, 129, 255, 256, 257, 4095, 4096];
  lengths.push(4097, 8191, 8192, 8193, 65_535, 65_536, 65_537);
  await withPipe(async (a, b) => {
    for (const burst of [false, true]) {
      const sent: Promise<void>[] = [];
      for (const [i, length] of lengths.entries()) {
        const all = Uint8Array.from({ length: length + 2 }, (_, j) => i + j);
        for (const view of [all.slice(2), all.subarray(1, length + 1)]) {
          sent.push(a.send_bytes(view));
          if (!burst) await sent.at(-1);
          view.fill(0);
        }
      }
      for (const [i, length] of lengths.entries()) {
        for (const start of [2, 1]) {
          const got = await b.recv_bytes();
          const expected = Uint8Array.from({ length }, (_, j) => i + j + start);
          assertEquals(got, expected, `${length} bytes, burst: ${burst}`);
          assertEquals(got.byteLength, got.buffer.byteLength);
        }
      }
      await Promise.all(sent);
    }
  });
});

test("recv_bytes() gives a buffer of its own, exactly as long", async () => {
  await withPipe(async (a, b) => {
    for (const length of [0, 1, 5, 100, 3000, 5000, 100_000]) {
      for (const burst of [1, 3]) {
        for (let i = 0; i < burst; i++) a.send_bytes(new Uint8Array(length));
        const seen = new Set();
        for (let i = 0; i < burst; i++) {
          const got = await b.recv_bytes();
          assertInstanceOf(got, Uint8Array);
          assertEquals(Object.getPrototypeOf(got), Uint8Array.prototype);
          assertInstanceOf(got.buffer, ArrayBuffer);
          assertEquals(
            [got.byteOffset, got.length, got.buffer.byteLength],
            [0, length, length],
          );
          seen.add(got.buffer);
        }
        assertEquals(seen.size, burst);
      }
    }
  });
}, { needs: ["realm"] });

test("recv_bytes() limits: equal is fine, 0 takes an empty message", async () => {
  await withPipe(async (a, b) => {
    await a.send_bytes(bytes());
    await a.send_bytes(bytes(1, 2, 3));
    assertEquals((await b.recv_bytes(0)).length, 0);
    for (const bad of [-1, -(2 ** 40)]) {
      await assertRejects(
        () => b.recv_bytes(bad),
        RangeError,
        "negative maxlength",
      );
    }
    for (const bad of [1.5, "3", NaN, Infinity, -Infinity, 3n, {}] as Any[]) {
      await assertRejects(() => b.recv_bytes(bad), TypeError);
    }
    assertEquals((await b.recv_bytes(3)).length, 3);
    await a.send_bytes(bytes(1));
    await a.send_bytes(bytes(2));
    assertEquals((await b.recv_bytes(null)).length, 1);
    assertEquals((await b.recv_bytes(undefined)).length, 1);
  });
});

test("recv_bytes() of a longer message: a duplex end becomes write-only", async () => {
  for (const waiting of [false, true]) {
    await withPipe(async (a, b) => {
      const send = () => {
        for (let i = 0; i < 3; i++) a.send_bytes(bytes(1, 2, 3));
      };
      if (!waiting) send();
      const call = b.recv_bytes(2);
      const others = [b.recv(), b.recv_bytes(), b.poll(null)];
      const outcomes = Promise.allSettled(others);
      if (waiting) send();
      await assertRejects(() => call, OSError, "bad message length");
      for (const outcome of await outcomes) {
        if (outcome.status === "fulfilled") continue; // a poll that was right
        assert(
          outcome.reason instanceof OSError ||
            outcome.reason instanceof TypeError,
          String(outcome.reason),
        );
      }
      assertEquals([b.closed, b.readable, b.writable], [false, false, true]);
      const word = "connection is write-only";
      await assertRejects(() => b.recv(), OSError, word);
      await assertRejects(() => b.recv_bytes(), OSError, word);
      await assertRejects(
        () => b.recv_bytes_into(bytes(1, 2, 3)),
        OSError,
        word,
      );
      await assertRejects(() => b.poll(), OSError, word);
      // The other direction goes on, and the peer notices nothing.
      await b.send("still");
      assertEquals(await a.recv(), "still");
      for (let i = 0; i < 1000; i++) await a.send(i);
      await a.send_bytes(new Uint8Array(8 << 20));
      await a.send_bytes(new Uint8Array(8 << 20));
      b.close();
      await assertRejects(() => a.send(1), BrokenPipeError);
    });
  }
});

test(
  "recv_bytes() of a longer message: what comes in is dropped, also when the end has moved",
  async () => {
    await withPipe(async (a, b) => {
      await a.send_bytes(bytes(1, 2));
      await assertRejects(() => b.recv_bytes(1), OSError, "bad message length");
      const moved = await local(b);
      const [c, d] = Pipe();
      await a.send({ c });
      for (let i = 0; i < 2000; i++) await a.send(i);
      await assertRejects(() => d.recv(), EOFError);
      moved.close();
      d.close();
    });
  },
  { needs: ["transfer"] },
);

test("recv_bytes() of a longer message: what is dropped with it leaves no send waiting", async () => {
  await withPipe(async (a, b) => {
    const sent = Array.from({ length: 300 }, () => a.send_bytes(bytes(1, 2)));
    await b.poll(null);
    await new Promise((done) => setTimeout(done, 5)); // all the others are there
    await assertRejects(() => b.recv_bytes(1), OSError, "bad message length");
    await Promise.all(sent);
  });
});

test("poll() that looks when a longer message ends reading rejects", async () => {
  await withPipe(async (a, b) => {
    const call = b.recv_bytes(2);
    const look = b.poll();
    a.send_bytes(bytes(1, 2, 3));
    await assertRejects(() => call, OSError, "bad message length");
    await assertRejects(() => look, OSError, "connection is write-only");
  });
});

test("recv_bytes() of a longer message: a read-only end closes", async () => {
  for (const waiting of [false, true]) {
    await withPipe(async (r, w) => {
      if (!waiting) await w.send_bytes(bytes(1, 2, 3));
      const call = r.recv_bytes(2);
      const next = r.recv();
      next.catch(() => {});
      if (waiting) await w.send_bytes(bytes(1, 2, 3)).catch(() => {});
      await assertRejects(() => call, OSError, "bad message length");
      await assertRejects(() => next, OSError, "handle is closed");
      assert(r.closed);
      await assertRejects(() => r.poll(), OSError, "handle is closed");
      await assertRejects(() => w.send(1), BrokenPipeError);
    }, false);
  }
});

test("recv_bytes_into() checks its arguments, and consumes nothing then", async () => {
  await withPipe(async (a, b) => {
    await a.send_bytes(bytes(1, 2));
    const buffer = new Uint8Array(4);
    await assertRejects(
      () => b.recv_bytes_into(buffer, -1),
      RangeError,
      "negative offset",
    );
    await assertRejects(
      () => b.recv_bytes_into(buffer, 5),
      RangeError,
      "offset too large",
    );
    const types: Any[][] = [
      ["text"],
      [null],
      [[1]],
      [buffer, 1.5],
      [buffer, "0"],
      [buffer, null],
      [buffer, NaN],
      [buffer, Infinity],
      [buffer, 0, 1],
    ];
    for (const args of types) {
      await assertRejects(() => (b.recv_bytes_into as Any)(...args), TypeError);
    }
    assertEquals(await b.recv_bytes_into(buffer, 2), 2);
    assertEquals([...buffer], [0, 0, 1, 2]);
  });
});

test("recv_bytes_into() of a message that does not fit: BufferTooShort", async () => {
  await withPipe(async (a, b) => {
    for (const length of [3, 100, 5000, 100_000]) {
      for (const burst of [false, true]) {
        const message = Uint8Array.from({ length }, (_, i) => i);
        if (burst) a.send_bytes(bytes(0));
        a.send_bytes(message);
        a.send_bytes(bytes(7));
        if (burst) await b.recv_bytes();
        const buffer = new Uint8Array(length);
        const error = await assertRejects(
          () => b.recv_bytes_into(buffer, 1),
          BufferTooShort,
        );
        assertEquals(error.args.length, 1);
        assertEquals(error.args[0], message);
        assertEquals(error.args[0].buffer.byteLength, length);
        assert(buffer.every((x) => x === 0), "the buffer is untouched");
        assertEquals(await b.recv_bytes_into(buffer), 1);
        assertEquals(buffer[0], 7);
      }
    }
    // At the very end only an empty message fits.
    a.send_bytes(bytes());
    a.send_bytes(bytes(1));
    assertEquals(await b.recv_bytes_into(bytes(1, 2), 2), 0);
    await assertRejects(
      () => b.recv_bytes_into(bytes(1, 2), 2),
      BufferTooShort,
    );
    assertEquals(await b.poll(), false);
    a.close();
    await assertRejects(() => b.recv_bytes_into(bytes(1)), EOFError);
  });
});

test(
  "recv_bytes_into() with a buffer that is detached while it waits loses no message",
  async () => {
    await withPipe(async (a, b) => {
      const buffer = new Uint8Array(4);
      const call = b.recv_bytes_into(buffer);
      structuredClone(buffer.buffer, { transfer: [buffer.buffer] });
      await a.send_bytes(bytes(1, 2));
      const error = await assertRejects(() => call, BufferTooShort);
      assertEquals([...error.args[0]], [1, 2]);
    });
  },
  { needs: ["transfer"] },
);

/** Content that depends on the message's number, for each byte. */
function content(random: Random, length: number): Uint8Array {
  const array = new Uint8Array(length);
  const step = 1 + random.int(250);
  for (let i = 0, x = random.int(256); i < length; i++, x += step) array[i] = x;
  return array;
}

function lengthOf(random: Random): number {
  const most = random.pick([0, 10, 100, 5000, 20_000, 65_536, 65_536, 300_000]);
  return most === 65_536 ? most : random.int(most + 1);
}

test(
  "bytes of any size arrive unharmed, both ways, while buffers are used again",
  async () => {
    const start = seed();
    const [a, conn] = Pipe<Any>();
    const run = spawnTask<number>("echoBytes", { conn }, {
      module: PIPE_TASKS,
    });
    const n = scale(400);
    const sending = (async () => {
      const random = new Random(start);
      for (let i = 0; i < n; i++) {
        const message = content(random, lengthOf(random));
        const before = random.int(50);
        const holder = new Uint8Array(message.length + before);
        holder.set(message, before);
        const sent = a.send_bytes(holder, before);
        holder.fill(0xdd);
        if (i % 3 === 0) await sent;
      }
    })();
    const random = new Random(start);
    const buffer = new Uint8Array(400_000);
    for (let i = 0; i < n; i++) {
      const want = content(random, lengthOf(random));
      random.int(50);
      let got: Uint8Array;
      if (i % 4 < 2) got = await a.recv_bytes();
      else got = buffer.subarray(0, await a.recv_bytes_into(buffer));
      if (got.length !== want.length || got.some((x, j) => x !== want[j])) {
        throw new Error(`Message ${i} of ${n} was harmed`);
      }
      if (i % 4 < 2) got.fill(0xcc);
    }
    await sending;
    a.close();
    assertEquals(await run.result, n);
  },
  { needs: ["workers"] },
);

test("bytes results that are kept are not overwritten", async () => {
  await withPipe(async (a, b) => {
    const kept: Uint8Array[] = [];
    const into = new Uint8Array(70_000);
    for (let i = 0; i < 300; i++) {
      await a.send_bytes(new Uint8Array(65_536).fill(i));
      if (i % 2) kept.push(await b.recv_bytes());
      else await b.recv_bytes_into(into);
    }
    for (const [i, array] of kept.entries()) {
      assert(array.every((x) => x === (2 * i + 1) % 256), String(i));
    }
  });
});

test("mixed objects and bytes keep their order in bursts", async () => {
  const random = new Random(seed());
  await withPipe(async (a, b) => {
    const n = scale(2000);
    const kinds: boolean[] = [];
    const sending = (async () => {
      for (let i = 0; i < n; i++) {
        kinds.push(random.chance());
        const sent = kinds[i]
          ? a.send(i)
          : a.send_bytes(Uint32Array.of(i), 0, 4);
        if (random.chance(0.1)) await sent;
      }
    })();
    for (let i = 0; i < n; i++) {
      await b.poll(null);
      const got = kinds[i]
        ? await b.recv()
        : new Uint32Array((await b.recv_bytes()).buffer)[0];
      assertEquals(got, i);
    }
    await sending;
  });
});
