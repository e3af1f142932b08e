// What is plain travels as text, and shares posts: it has to arrive as structuredClone would give it.

import { assert, assertEquals } from "@std/assert";
import { Pipe, type Queue } from "../mod.ts";
import { weigh } from "../_snapshot.ts";
import { textOf } from "../_text.ts";
import { Agent } from "./_agent.ts";
import { Random, seed, test } from "./_harness.ts";
import { Holder } from "./_holder.ts";

function leaf(random: Random): unknown {
  const leaves = [undefined, null, -0, NaN, 1, "", "名", true, 10n, Infinity];
  return leaves[random.int(leaves.length)];
}

/** Few keys and small sizes, so that shapes come again, and nearly do. */
function value(random: Random, depth: number): unknown {
  const kind = random.int(depth > 0 ? 6 : 2);
  if (kind < 2) return leaf(random);
  const size = random.int(4);
  if (kind === 2) {
    return Array.from({ length: size }, () => value(random, depth - 1));
  }
  if (kind === 3 && depth === 3) {
    const shared = { at: value(random, 1) };
    return { a: shared, b: [shared] };
  }
  const object: Record<string, unknown> = random.int(9) === 0
    ? Object.create(null)
    : {};
  for (let i = 0; i < size; i++) {
    object["abc7"[random.int(4)]!] = value(random, depth - 1);
  }
  return object;
}

test("send() in a burst gives what structuredClone gives", async () => {
  const random = new Random(seed());
  const [a, b] = Pipe();
  for (let round = 0; round < 40; round++) {
    const sent: unknown[] = [];
    while (sent.length < 100) {
      const one = value(random, 3);
      for (let i = random.int(4); i >= 0; i--) sent.push(one);
    }
    const expected = sent.map((one) => structuredClone(one));
    const posted = sent.map((one) => a.send(one));
    for (const one of expected) assertEquals(await b.recv(), one);
    await Promise.all(posted);
  }
  a.close();
  b.close();
});

test(
  "send() in a burst keeps what the platform keeps of an object",
  async () => {
    const [a, b] = Pipe<Record<string, unknown>>();
    const shared = { x: 1 };
    const cycle: Record<string, unknown> = { id: 1 };
    cycle.self = cycle;
    const named = Object.assign([1, 2], { name: "n" });
    const own = JSON.parse('{"__proto__": 5, "y": 1}');
    const all = [
      { id: 0, p: shared, q: { x: 1 } },
      { id: 0, p: shared, q: shared },
      cycle,
      { id: 2, list: named },
      { id: 3, list: [1, 2] },
      // deno-lint-ignore no-sparse-arrays
      { id: 4, list: [1, , 2] },
      own,
      { date: new Date(5), map: new Map([[1, shared]]) },
      { id: 5, list: [1, 2] },
    ];
    all.forEach((one) => a.send(one));
    const got: Record<string, unknown>[] = [];
    for (let i = 0; i < all.length; i++) got.push(await b.recv());
    assert(got[0]!.p !== got[0]!.q && got[1]!.p === got[1]!.q);
    assert(got[2]!.self === got[2]);
    assertEquals((got[3]!.list as { name?: string }).name, "n");
    assertEquals(Object.keys(got[4]!.list as object), ["0", "1"]);
    assertEquals(Object.keys(got[5]!.list as object), ["0", "2"]);
    assertEquals(
      Object.getOwnPropertyDescriptor(got[6], "__proto__")?.value,
      5,
    );
    assert(got[7]!.date instanceof Date && got[7]!.map instanceof Map);
    assertEquals(got[8], { id: 5, list: [1, 2] });
    a.close();
    b.close();
  },
  { needs: ["realm"] },
);

test("send() inside a getter of a message that is sent in a burst", async () => {
  const [a, b] = Pipe<unknown>();
  const message = (i: number) => ({
    id: i,
    get inner() {
      a.send({ id: i, inner: "sent by the getter" });
      return i;
    },
  });
  const sent = [a.send(0), ...[1, 2, 3].map((i) => a.send(message(i)))];
  sent.push(a.send("last"));
  await Promise.all(sent);
  const outer: unknown[] = [];
  for (let one: unknown; (one = await b.recv()) !== "last";) {
    if ((one as { inner?: unknown }).inner !== "sent by the getter") {
      outer.push(one);
    }
  }
  assertEquals(outer, [0, ...[1, 2, 3].map((i) => ({ id: i, inner: i }))]);
  a.close();
  b.close();
});

test("handing over with half of a burst read loses nothing", async () => {
  const [a, b] = Pipe<{ id: number; at: { x: number } }>();
  const count = 200;
  for (let i = 0; i < count; i++) a.send({ id: i, at: { x: -i } });
  for (let i = 0; i < 50; i++) assertEquals((await b.recv()).id, i);
  const [there, here] = Pipe<unknown, { b: typeof b }>();
  await there.send({ b });
  const { b: c } = await here.recv();
  for (let i = 50; i < count; i++) {
    assertEquals(await c.recv(), { id: i, at: { x: -i } });
  }
  a.close();
  c.close();
  there.close();
  here.close();
});

test("what JSON would change arrives unchanged, alone and in a burst", async () => {
  const [a, b] = Pipe<unknown>();
  const shared = { x: 1 };
  const odd = [undefined, NaN, -0, Infinity, 10n, "\ud800", 1e21, 0.1, shared];
  for (const value of odd) {
    for (const sent of [value, { value }, [value], { at: [{ value }] }]) {
      const expected = structuredClone(sent);
      // The first of a turn is posted alone, the others share a post.
      const posted = [1, 2, 3].map(() => a.send(sent));
      for (let i = 0; i < 3; i++) {
        const got = await b.recv();
        assertEquals(got, expected);
        assert(Object.is(leafOf(got), leafOf(expected)) || value === shared);
      }
      await Promise.all(posted);
    }
  }
  await a.send([shared, shared]);
  const [one, two] = await b.recv() as [object, object];
  assert(one === two);
  a.close();
  b.close();
});

test("what is weighed may be anything", () => {
  class Boast extends Set<number> {
    override get size(): number {
      return NaN;
    }
  }
  let deep: unknown[] = [1];
  for (let i = 0; i < 40; i++) {
    const list = new Array(2 ** 32 - 1);
    list[0] = deep;
    deep = list;
  }
  const cycle: unknown[] = [];
  cycle.push(cycle, cycle);
  for (const odd of [new Boast([1]), deep, cycle]) {
    const weight = weigh(odd);
    assert(Number.isSafeInteger(weight) && weight >= 0, String(weight));
  }
  assertEquals(weigh(Object.assign([1], { values: 5, slice: 5 })), 24);
  assert(weigh(new Array(1e6)) < 1000, "holes");
  assertEquals(weigh(new String("xyz")), 3);
  const wide = Object.fromEntries(
    Array.from("x".repeat(9999), (x, i) => [i, x]),
  );
  assert(weigh(wide) > 9999, "many fields");
});

test("what JSON refuses, as too long a text, stays as it is", () => {
  const frame: unknown[] = [];
  frame.push(frame);
  assert(textOf(frame) === frame);
});

test("a toJSON that everything has changes nothing", async () => {
  const [a, b] = Pipe<unknown>();
  const proto = Object.prototype as { toJSON?: () => string };
  Object.defineProperty(proto, "toJSON", {
    configurable: true,
    value: () => "changed",
  });
  try {
    const posted = [1, 2].map((id) => a.send({ id }));
    for (const id of [1, 2]) {
      assertEquals((await b.recv() as { id: number }).id, id);
    }
    await Promise.all(posted);
  } finally {
    delete proto.toJSON;
    a.close();
    b.close();
  }
});

test(
  "a toJSON that everything has changes nothing between threads",
  async () => {
    const agent = new Agent();
    const [a, b] = Pipe<number>();
    await agent.take("b", b);
    const owner = new Holder();
    await owner.make("q", 2);
    const q = await owner.give<Queue<number>>("q");
    const proto = Array.prototype as { toJSON?: () => string };
    Object.defineProperty(proto, "toJSON", {
      configurable: true,
      value: () => "changed",
    });
    try {
      for (let i = 0; i < 600; i++) { // more than a window
        const sent = agent.call("b", "send", i);
        assertEquals(await a.recv(), i);
        await sent;
      }
      for (let i = 0; i < 10; i++) {
        await q.put(i);
        assertEquals(await q.get(), i);
      }
    } finally {
      delete proto.toJSON;
    }
    a.close();
    q.close();
    await agent.end();
    await owner.end();
  },
  { needs: ["workers"] },
);

test("a key that every object has changes nothing", async () => {
  const [a, b] = Pipe<object>();
  const proto = Object.prototype as { everywhere?: number };
  const sent = [a.send({})];
  proto.everywhere = 1;
  try {
    sent.push(a.send({ own: 1 }));
  } finally {
    delete proto.everywhere;
  }
  assertEquals([await b.recv(), await b.recv()], [{}, { own: 1 }]);
  await Promise.all(sent);
  a.close();
  b.close();
});

/** The innermost value. */
function leafOf(value: unknown): unknown {
  while (typeof value === "object" && value !== null) {
    value = Object.values(value)[0];
  }
  return value;
}
