// Hostile input at the doors of this module: frames on the ports of a queue, and what `unpack` is given.
// It is ignored or refused with a clear error; nothing else is disturbed, polluted or made large.

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Client } from "../_client.ts";
import { connection } from "../connection.ts";
import { Link } from "../_link.ts";
import {
  type Connection,
  Empty,
  EOFError,
  JoinableQueue,
  pack,
  Pipe,
  Queue,
  unpack,
} from "../mod.ts";
import { remoteClient } from "../_owner.ts";
import { openChannel, type OpenPort } from "../_port.ts";
import { force } from "../_runtime.ts";
import * as wire from "../_wire.ts";
import { HANDLE_WORDS, QUEUE_WORDS } from "../_words.ts";
import { Random, scale, seed, test } from "./_harness.ts";
import { Holder, outcome } from "./_holder.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

const KEY = "@ipc/multiprocessing";
const TAGS = Object.values(wire).filter((x) => typeof x === "number");
const later = () => new Promise((done) => setTimeout(done, 5));
const prototype = Reflect.ownKeys(Object.prototype).length;

function unpolluted(): void {
  assertEquals(Reflect.ownKeys(Object.prototype).length, prototype);
  assertEquals(({} as Any).polluted, undefined);
  assert(Object.getPrototypeOf([]) === Array.prototype);
}

/** A random field of a frame. */
function field(random: Random, depth = 0): unknown {
  return random.pick<() => unknown>([
    () => random.int(6),
    () => random.int(6),
    () => random.int(40),
    () => -1,
    () => 0.5,
    () => NaN,
    () => 2 ** 31,
    () => 2 ** 53 - 1,
    () => 1e300,
    () => null,
    () => undefined,
    () => true,
    () => false,
    () => "__proto__",
    () => "size",
    () => new ArrayBuffer(8),
    () => new Int32Array(HANDLE_WORDS),
    () => new Map([["a", 1]]),
    () => JSON.parse('{"__proto__": {"polluted": 1}}'),
    () => ({ [KEY]: 1 }),
    () => ({ [KEY]: 1, value: 1, endpoints: [], places: [], moved: [{}] }),
    () => ({
      [KEY]: 1,
      value: [null],
      endpoints: [{ kind: random.pick(["queue", "connection", "x"]) }],
      places: [[[null], "0", 0]],
      moved: [],
    }),
    () =>
      depth > 2 ? [] : Array.from(
        { length: random.int(5) },
        () => field(random, depth + 1),
      ),
  ])();
}

function frame(random: Random, but: number[]): unknown[] {
  let tag = random.pick(TAGS);
  while (but.includes(tag)) tag = random.pick(TAGS);
  const length = random.int(7);
  return [tag, ...Array.from({ length }, () => field(random))];
}

// What was packed, and is not posted, would be closed with its message.
const packed: unknown[] = [];

/** The raw port of a handle of a queue. */
function exposed(q: Queue<Any>): MessagePort {
  const [message] = pack({ q });
  packed.push(message);
  return (message as Any).endpoints[0].port;
}

/** Says so before it goes: not every platform tells of a port that was closed. */
function hangUp(door: MessagePort): void {
  door.postMessage([wire.EOF]);
  door.close();
}

/** A handle, and the port of its owner. */
function served(shared: boolean): [Client, OpenPort] {
  const [near, far] = openChannel();
  const client = remoteClient(near, {
    kind: "queue",
    maxsize: 0,
    joinable: true,
    words: shared ? new Int32Array(QUEUE_WORDS) : undefined,
    mine: shared ? new Int32Array(HANDLE_WORDS) : undefined,
  });
  return [client, far];
}

/** The owner of a handle goes, and the handle with it. */
function abandon(client: Client, far: OpenPort): void {
  far.post([wire.EOF]);
  client.close();
  client.ownerEnded();
  far.close();
}

for (const shared of [true, false]) {
  const how = shared ? "with" : "without";
  test(
    `random frames of a handle do not disturb a queue ${how} shared memory`,
    async () => {
      const random = new Random(seed());
      force.noSharedMemory = !shared;
      try {
        for (let round = 0; round < scale(20); round++) {
          const q = new JoinableQueue<Any>(random.pick([0, 2, 5]));
          const doors = [exposed(q), exposed(q)];
          const expected: number[] = [];
          const got: number[] = [];
          for (let i = 0; i < 8; i++) {
            for (const door of doors) {
              for (let j = random.int(8); j > 0; j--) {
                // A handle may ask, get, put and shut down: that is its right.
                door.postMessage(frame(random, [
                  wire.GET,
                  wire.ASK,
                  wire.PUT_WAIT,
                  wire.SHARE,
                ]));
              }
            }
            await later();
            if (await q.full()) got.push(await q.get());
            await q.put(i);
            expected.push(i);
          }
          while (!(await q.empty())) {
            got.push(await q.get_nowait());
          }
          assertEquals(got, expected);
          assertEquals(await q.qsize(), 0);
          await assertRejects(() => q.get_nowait(), Empty);
          for (let i = 0; i < 8; i++) await q.task_done();
          await q.join();
          for (const door of doors) hangUp(door);
          q.close();
          unpolluted();
        }
      } finally {
        force.noSharedMemory = false;
      }
    },
    { needs: ["transfer"] },
  );

  test(
    `any frames of a handle leave the others of a queue usable ${how} shared memory`,
    async () => {
      const random = new Random(seed());
      force.noSharedMemory = !shared;
      try {
        for (let round = 0; round < scale(20); round++) {
          const q = new Queue<Any>(random.pick([0, 1, 3]));
          const doors = [exposed(q), exposed(q)];
          for (const door of doors) {
            for (let j = 0; j < 20; j++) {
              door.postMessage(frame(random, [wire.ASK, wire.SHARE]));
            }
          }
          await later();
          // What they wanted, they give up when they are gone.
          for (const door of doors) hangUp(door);
          await later();
          const left = await q.qsize();
          assert(left >= 0 && (q.maxsize <= 0 || left <= q.maxsize), `${left}`);
          const strays: unknown[] = [];
          while (!(await q.empty())) {
            // An item of a forger may be refused, but is gone then.
            strays.push(await q.get_nowait().catch((error) => error));
            assert(strays.length <= 200);
          }
          await q.put("right");
          assertEquals(await q.get_nowait(), "right");
          assertEquals(await q.qsize(), 0);
          q.close();
          unpolluted();
        }
      } finally {
        force.noSharedMemory = false;
      }
    },
    { needs: ["transfer"] },
  );

  test(
    `random frames of an owner do not disturb a handle ${how} shared memory`,
    async () => {
      const random = new Random(seed());
      for (let round = 0; round < scale(20); round++) {
        const [client, far] = served(shared);
        const waiting = client.get(Infinity, undefined);
        waiting.catch(() => {});
        const answers = [wire.ITEMS, wire.ANSWER, wire.ENDED];
        for (let j = 0; j < 30; j++) far.post(frame(random, answers));
        // Has no items; claims more than it holds; names no part, or no number.
        far.post([wire.ITEMS, -1, 1, 0, 1, ["no"]]);
        far.post([wire.ITEMS, 1, 1, 0, 1, "text"]);
        far.post([wire.OFFER, "x"]);
        far.post([wire.ENDED, 0]);
        far.post([wire.ITEMS, 1, 1, 0, 1e9, []]);
        far.post([wire.ITEMS, 1, 1, 0, 2, [1]]);
        far.post([wire.ITEMS, 1, 1, 0, 1, [1], ["__proto__"]]);
        far.post([wire.ITEMS, 1, 1, 0, 1, [1], [7]]);
        far.post([wire.ITEMS, 1, 1, 0, 1, ["right"]]);
        assertEquals(await waiting, "right");
        unpolluted();
        abandon(client, far);
      }
    },
    { needs: ["transfer"] },
  );
}

test(
  "a forged parcel rejects the get that it is for, and goes back as it is",
  async () => {
    const [client, far] = served(false);
    const forged = {
      [KEY]: 1,
      value: 1,
      endpoints: [{ kind: "x" }],
      places: [],
    };
    for (const packed of [forged, { ...forged, moved: "moved" }, "text"]) {
      // For nobody.
      far.post([wire.ITEMS, 99, 1, 0, 1, [packed], [0]]);
    }
    const call = client.get(Infinity, undefined);
    far.post([wire.ITEMS, 1, 1, 0, 1, [forged], [0]]);
    const error = await call.catch((error) => error);
    assert(error instanceof TypeError, String(error));
    const next = client.get(Infinity, undefined);
    far.post([wire.ITEMS, 2, 2, 0, 1, ["right"]]);
    assertEquals(await next, "right");
    abandon(client, far);
  },
  { needs: ["transfer"] },
);

test(
  "a handle that counts nothing, shares nothing, gives nothing back is ignored",
  async () => {
    const q = new Queue<Any>();
    const [a, b] = Pipe<string>();
    const door = exposed(q);
    const heard: Any[] = [];
    door.onmessage = ({ data }) =>
      heard.push(typeof data === "string" ? JSON.parse(data) : data);
    const answer = async (tag: number): Promise<Any> => {
      while (heard[0]?.[0] !== tag) {
        heard.shift();
        await later();
      }
      return heard.shift();
    };
    door.postMessage("text");
    door.postMessage([wire.SHARE, "no port"]);
    // Not counted among the puts that wait, where it counts itself.
    door.postMessage([wire.PUT_WAIT, 1, 0, ["no"], false]);
    await q.put({ b });
    door.postMessage([wire.GET, 2, 1, 1, true]);
    door.postMessage([wire.GET, 2, 0, 0, true]);
    door.postMessage([wire.GET, 2, 0, 1, true]);
    await answer(wire.OFFER);
    door.postMessage([wire.ACCEPT, 2, true]);
    const [, , seq, , , items] = await answer(wire.ITEMS);
    const parcel = { ...items[0], endpoints: [] };
    for (const parcels of ["text", [], ["text"], [parcel, parcel]]) {
      door.postMessage([wire.GIVE_BACK, seq, parcels]);
    }
    door.postMessage([wire.GIVE_BACK, seq + 1, []]);
    await later();
    await assertRejects(() => q.get_nowait(), Empty);
    const { ports } = items[0].endpoints[0];
    door.postMessage([wire.GIVE_BACK, seq, items], ports);
    const got = await q.get();
    await a.send("right");
    assertEquals(await got.b.recv(), "right");
    for (const end of [a, got.b]) end.close();
    hangUp(door);
    q.close();
  },
  { needs: ["transfer", "shared"] },
);

test(
  "an item whose parts cannot be moved rejects the get that it comes to, and is gone",
  async () => {
    force.noSharedMemory = true;
    try {
      const q = new Queue<Any>();
      const door = exposed(q);
      const other = new Holder();
      await other.hold("q", q);
      const item = { [KEY]: 1, value: 1, endpoints: [], places: [] };
      door.postMessage([wire.PUT_WAIT, 1, 0, [], true]); // keeps a place
      door.postMessage([wire.PUT_PARCEL, { ...item, moved: [{}] }]);
      assertEquals(
        await outcome(other.call("q", "get")),
        "TypeError: Cannot get: the item is malformed, and was dropped",
      );
      await q.put("next");
      assertEquals(await other.call("q", "get"), "next");
      // Asked there: the word that the item has come travels by its port.
      assertEquals(await other.call("q", "qsize"), 0);
      hangUp(door);
      await other.end();
      q.close();
    } finally {
      force.noSharedMemory = false;
    }
  },
  { needs: ["workers"] },
);

test(
  "unpack() of forged messages fails with a clear error, or returns them",
  () => {
    const random = new Random(seed());
    const [a, b] = Pipe();
    const [real] = pack({ b });
    packed.push(real);
    const model = (real as Any).endpoints[0];
    for (let i = 0; i < scale(3000); i++) {
      const descriptor: Any = random.chance(0.2)
        ? field(random)
        : random.chance()
        ? { ...model, ports: [], inbox: [] }
        : {
          kind: "queue",
          id: "x",
          maxsize: 1,
          joinable: false,
          port: null,
          words: undefined,
          mine: undefined,
        };
      if (typeof descriptor === "object" && descriptor !== null) {
        for (let j = random.int(3); j >= 0; j--) {
          const key = random.pick(Object.keys(descriptor));
          if (key) descriptor[key] = field(random);
        }
      }
      const value = random.pick<Any>([
        { b: null },
        [],
        null,
        "text",
        field(random),
      ]);
      const message: Any = {
        [KEY]: 1,
        value,
        endpoints: random.chance(0.9) ? [descriptor] : field(random),
        places: random.pick<unknown>([
          [[value, "b", 0]],
          [[value, "__proto__", 0]],
          [[value?.__proto__, "polluted", 0]],
          [[value?.constructor?.prototype, "polluted", 0]],
          [[value, "constructor", 0]],
          [[value, "length", 0]],
          [[value, "b", 7]],
          [[7]],
          [field(random)],
          field(random),
        ]),
        moved: random.chance() ? [] : field(random),
      };
      try {
        const got = unpack<Any>(message);
        got?.b?.close?.();
        got?.close?.();
      } catch (error) {
        assert(error instanceof TypeError, String(error));
        assert(error.message.startsWith("Cannot unpack"), error.message);
      }
      unpolluted();
    }
    a.close(); // not left to the garbage collector
    model.ports[0].close();
  },
  { needs: ["transfer"] },
);

test("unpack() passes on what a getter or a proxy throws, and makes nothing", () => {
  const thrown = new RangeError("Mine");
  const bad = {
    get(): never {
      throw thrown;
    },
  };
  for (const key of [KEY, "endpoints", "places", "value"]) {
    const message: Any = { [KEY]: 1, value: 1, endpoints: [], places: [] };
    Object.defineProperty(message, key, { ...bad, enumerable: true });
    try {
      unpack(message);
    } catch (error) {
      assert(error === thrown || error instanceof TypeError);
    }
  }
  const proxy = new Proxy({}, {
    get: bad.get,
    has: bad.get,
    getOwnPropertyDescriptor: bad.get,
  });
  try {
    unpack(proxy);
    assert(false);
  } catch (error) {
    assert(error === thrown);
  }
  unpolluted();
});

test(
  "unpack() of a message whose place cannot hold an endpoint fails as malformed",
  async () => {
    const [a, b] = Pipe();
    const [packed] = pack({ b });
    const list: Any[] = [];
    (packed as Any).places = [[list, "length", 0]];
    assertThrows(() => unpack(packed), TypeError, "malformed");
    await assertRejects(() => a.recv(), EOFError);
    a.close();
  },
  { needs: ["transfer"] },
);

test(
  "unpack() of a message, or of a port, that was unpacked before fails",
  async () => {
    const [a, b] = Pipe<number>();
    const q = new Queue<number>();
    const [message] = pack({ b, q });
    const copy = { ...(message as Any) };
    const first = unpack<{ b: Connection<number>; q: Queue<number> }>(message);
    for (const again of [message, copy]) {
      try {
        unpack(again);
        assert(false, "it was unpacked again");
      } catch (error) {
        assert(error instanceof TypeError, String(error));
      }
    }
    // The first owner notices nothing.
    await a.send(1);
    assertEquals(await first.b.recv(), 1);
    await first.q.put(2);
    assertEquals(await q.get(), 2);
    first.b.close();
    first.q.close();
    a.close();
    q.close();
  },
  { needs: ["transfer"] },
);

test("a text that is no frame, or a malformed one, is ignored", async () => {
  const [near, far]: [OpenPort, OpenPort] = openChannel();
  const conn = connection<Any, Any>(new Link("pipe", 0, true, true, [near]));
  const texts = ["", "[", "null", "{}", '"text"', `[${wire.OBJECT}]`];
  texts.push(`[${wire.OBJECTS},{"length":1}]`, `[${wire.BYTES},"text"]`);
  texts.push(`[${wire.REPLUG},{},0,0]`, `[${wire.PARCEL},{"endpoints":[{}]}]`);
  for (const text of texts) far.post(text);
  far.post(`[${wire.OBJECT},{"__proto__":{"polluted":1}}]`);
  const odd = await conn.recv();
  assertEquals(Object.getPrototypeOf(odd), Object.prototype);
  assertEquals(Object.keys(odd), ["__proto__"]);
  far.post([wire.OBJECT, "right"]);
  assertEquals(await conn.recv(), "right");
  conn.close();
  far.close();
});
