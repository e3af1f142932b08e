import { assert, assertEquals, assertRejects } from "@std/assert";
import { connection } from "../connection.ts";
import { Link } from "../_link.ts";
import { type Connection, EOFError, pack, Pipe, unpack } from "../mod.ts";
import { adopt, openChannel, type OpenPort } from "../_port.ts";
import { force } from "../_runtime.ts";
import * as wire from "../_wire.ts";
import { Random, scale, seed, test } from "./_harness.ts";
import { local } from "./_local.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

/** A connection, and the raw port at its other side. */
function exposed(): [Connection<Any>, OpenPort] {
  const [near, far] = openChannel();
  return [connection<Any, Any>(new Link("pipe", 0, true, true, [near])), far];
}

/** An end that has been replugged, the port to which that leads, and what its mover passes on. */
function replugged(pipe = "pipe"): [Connection<Any>, OpenPort, OpenPort] {
  const [near, far] = openChannel();
  const [drain, feed] = openChannel();
  const link = Link.from({
    kind: "connection",
    pipe,
    end: 0,
    readable: true,
    writable: true,
    skips: false,
    ports: [drain.give(), near.give()],
    peers: [null, null],
    inbox: [],
    counts: [0, 0, 1, 0],
  });
  return [connection<Any, Any>(link), far, feed];
}

const TAGS = Object.values(wire).filter((x) => typeof x === "number");
const later = () => new Promise((done) => setTimeout(done, 10));

function junk(): unknown[] {
  const own = TAGS.filter((tag) =>
    tag !== wire.EOF && tag !== wire.OBJECT && tag !== wire.OBJECTS
  );
  return [
    undefined,
    null,
    0,
    "text",
    "\x1d\xc0\x01",
    [],
    {},
    [[]],
    ["ipc"],
    [NaN],
    [wire.OBJECT - 1, 1],
    [0x1dcf_ffff, 1],
    [wire.OBJECT + 0.5, 1],
    [BigInt(wire.OBJECT), 1],
    { 0: wire.OBJECT, 1: "x" },
    new Uint8Array(8),
    new Map(),
    [wire.OBJECT],
    [wire.OBJECT, 1, "heavy"],
    [wire.OBJECT, 1, -1],
    [wire.OBJECTS],
    [wire.OBJECTS, []],
    [wire.OBJECTS, "text"],
    [wire.OBJECTS, { length: 3 }],
    [wire.OBJECTS, [1], NaN],
    ...own.flatMap((tag) => [
      [tag],
      [tag, null],
      [tag, {}],
      [tag, "x", "y", "z"],
      [tag, -1, 1.5],
      [tag, NaN, Infinity, []],
    ]),
    [wire.PACKED, new ArrayBuffer(0)],
    [wire.PACKED, new ArrayBuffer(3)],
    [wire.PACKED, new Uint8Array([9, 0, 0, 0, 1]).buffer],
    [wire.PACKED, new Uint8Array([255, 255, 255, 255, 1, 2, 3, 4]).buffer],
    [wire.PACKED, new Uint8Array([253, 255, 255, 255]).buffer],
    [wire.PACKED, new Uint8Array([1, 0, 0, 0, 7, 0, 0, 0, 9]).buffer],
    [wire.BYTES, [1, 2]],
    [wire.TOOK, 1e300, 1e300, undefined, [1, {}, null]],
    [wire.TOOK, 1, 1, 0, "chunks"],
    [wire.TOOK, 1, 1, 1e9, [1]],
    [wire.PARCEL, {}],
    [wire.PARCEL, { "@ipc/multiprocessing": 1 }],
    [wire.PARCEL, {
      "@ipc/multiprocessing": 1,
      value: 1,
      endpoints: [{ kind: "nothing" }],
      places: [],
    }],
    [wire.PARCEL, {
      "@ipc/multiprocessing": 1,
      value: 1,
      endpoints: [null],
      places: [[0]],
      moved: "moved",
    }],
    [wire.REPLUG, {}],
  ];
}

test("foreign and malformed frames are ignored", async () => {
  const [conn, port] = exposed();
  const received = conn.recv();
  const polled = conn.poll(null);
  for (const message of junk()) port.post(message);
  await later();
  port.post([wire.OBJECT, "right"]);
  assertEquals(await received, "right");
  for (const message of junk()) port.post(message);
  port.post([wire.OBJECTS, [1, 2], 3]);
  for (const message of junk()) port.post(message);
  assertEquals(await polled, true);
  assertEquals([await conn.recv(), await conn.recv()], [1, 2]);
  await conn.send("still");
  port.post([wire.EOF]);
  await assertRejects(() => conn.recv(), EOFError);
  conn.close();
  port.close();
});

test("what is lost with a mover leaves no later send waiting", async () => {
  const [conn, far, feed] = replugged();
  conn.poll(null).catch(() => {});
  const sends = Array.from({ length: 256 }, (_, i) => conn.send(i));
  // The reports of what was read are lost, too.
  feed.post([wire.CUT]);
  feed.post([wire.LAST]);
  await Promise.all(sends);
  await conn.send("more");
  conn.close();
  for (const port of [far, feed]) port.close();
});

test(
  "two ends that moved at once find each other, whatever was lost before",
  async () => {
    const [a, toA, fromMoverOfA] = replugged("one");
    const [b, toB, fromMoverOfB] = replugged("other");
    const [rawA, rawB] = [toA.give(), toB.give()];
    fromMoverOfB.post([wire.CUT]); // of a mover before
    fromMoverOfA.post([wire.REPLUG, rawB, 1, 0], [rawB]);
    fromMoverOfB.post([wire.REPLUG, rawA, 1, 0], [rawA]);
    for (const [from, to] of [[a, b], [b, a]] as const) {
      for (let i = 0; i < 300; i++) {
        const sent = from.send(i);
        assertEquals(await to.recv(), i);
        await sent;
      }
    }
    for (const end of [a, b, fromMoverOfA, fromMoverOfB]) end.close();
  },
  { needs: ["transfer"] },
);

test(
  "an end whose mover has ended says so, and its peer then sends elsewhere",
  async () => {
    const frames = (port: OpenPort) => {
      const got: Any[] = [];
      port.start({ frame: (_, frame) => void got.push(frame), gone() {} });
      return got;
    };
    const tags = (got: Any[]) => got.map(([tag]) => tag);

    for (const how of ["CUT", "gone"]) {
      const [conn, far, feed] = replugged();
      const heard = frames(far);
      conn.poll(null).catch(() => {});
      if (how === "CUT") { // of a mover before
        feed.post([wire.CUT]);
        feed.post([wire.LAST]);
      } else feed.close();
      while (!tags(heard).includes(wire.CUT)) await later();
      for (const end of [conn, far, feed]) end.close();
    }

    // Both have moved at once: what is sent on the old port is for nobody any more.
    const [conn, gone, feed] = replugged();
    const [theirs, ours] = openChannel();
    const heard = frames(theirs);
    const raw = ours.give();
    feed.post([wire.REPLUG, raw, 1, 0], [raw]);
    theirs.post([wire.OBJECT, 1]);
    assertEquals(await conn.recv(), 1);
    await conn.send("lost");
    theirs.post([wire.CUT]);
    while (!tags(heard).includes(wire.REPLUG)) await later();
    const fresh = adopt(heard.find(([tag]) => tag === wire.REPLUG)[1]);
    const found = frames(fresh);
    await conn.send("found");
    while (!tags(found).includes(wire.OBJECT)) await later();
    assertEquals(found.at(-1), [wire.OBJECT, "found"]);
    for (const end of [conn, gone, feed, theirs, fresh]) end.close();
  },
  { needs: ["transfer"] },
);

test(
  "foreign and malformed frames do not disturb a move, or a close",
  async () => {
    for (const unread of [true, false]) {
      const [conn, port] = exposed();
      if (unread) await conn.poll(0);
      for (const message of junk()) port.post(message);
      port.post([wire.OBJECT, "right"]);
      if (unread) await conn.poll(1000);
      (await local(conn)).close();
      port.close();
      const [closing, other] = exposed();
      if (unread) await closing.poll(0);
      for (const message of junk()) other.post(message);
      if (unread) await later();
      closing.close();
      other.close();
    }
  },
  { needs: ["transfer"] },
);

test(
  "foreign and malformed frames do not disturb an end that is replugged",
  async () => {
    const [conn, port] = exposed();
    await conn.poll(0);
    force.replug = true;
    const moving = local(conn);
    force.replug = false;
    const last = (message: Any) => message?.[0] === wire.LAST;
    for (const message of junk()) if (!last(message)) port.post(message);
    port.post([wire.OBJECT, "right"]);
    const moved = await moving;
    assertEquals(await moved.recv(), "right");
    port.post([wire.EOF]);
    await assertRejects(() => moved.recv(), EOFError);
    moved.close();
    port.close();
  },
  { needs: ["transfer"] },
);

test(
  "a parcel that holds no endpoint after all is dropped with the others",
  async () => {
    const [conn, port] = exposed();
    const [kept, end] = Pipe();
    const [held, transfer] = pack({ end });
    const forged = { ...(held as Any), endpoints: [{ kind: "connection" }] };
    port.post([wire.PARCEL, forged]);
    port.post([wire.PARCEL, held], transfer);
    await conn.poll(1000);
    conn.close();
    await assertRejects(() => kept.recv(), EOFError);
    kept.close();
    port.close();
  },
  { needs: ["transfer"] },
);

test(
  "a parcel that is no endpoint moves along unread, and is refused there",
  async () => {
    const [conn, port] = exposed();
    const [held] = pack({ x: 1 });
    const forged = { ...(held as Any), endpoints: [{ kind: "connection" }] };
    port.post([wire.PARCEL, forged]);
    assert(await conn.poll(1000));
    const moved = await local(conn);
    await assertRejects(() => moved.recv(), TypeError, "malformed");
    moved.close();
    port.close();
  },
  { needs: ["transfer"] },
);

test("what comes after the end of file is ignored", async () => {
  const [conn, port] = exposed();
  port.post([wire.OBJECT, 1]);
  port.post([wire.EOF]);
  port.post([wire.OBJECT, 2]);
  port.post([wire.EOF]);
  assertEquals(await conn.recv(), 1);
  await assertRejects(() => conn.recv(), EOFError);
  conn.close();
  port.close();
});

test("what comes after the end of file is not passed on", async () => {
  const [conn, far, feed] = replugged();
  await conn.poll(0);
  for (const tag of [wire.EOF, wire.LAST, wire.OBJECT]) far.post([tag, 2]);
  await later(); // kept until the drain has ended
  force.replug = true;
  const moving = local(conn);
  force.replug = false;
  feed.post([wire.OBJECT, 1]);
  feed.post([wire.LAST]);
  const moved = await moving;
  assertEquals(await moved.recv(), 1);
  await assertRejects(() => moved.recv(), EOFError);
  moved.close();
  for (const port of [far, feed]) port.close();
}, { needs: ["transfer"] });

test("random frames never make a connection throw, nor pollute anything", async () => {
  const random = new Random(seed());
  const before = Reflect.ownKeys(Object.prototype).length;
  const field = (depth: number): unknown =>
    random.pick<() => unknown>([
      () => random.int(5),
      () => -1,
      () => null,
      () => "__proto__",
      () => new ArrayBuffer(random.int(40)),
      () => JSON.parse('{"__proto__": {"polluted": 1}}'),
      () => new Uint8Array(random.int(9)),
      () => depth > 0 ? [field(depth - 1), field(depth - 1)] : [],
      () => ({
        "@ipc/multiprocessing": 1,
        value: depth > 0 ? field(depth - 1) : {},
        endpoints: depth > 0 ? [field(depth - 1)] : [],
        places: [[depth > 0 ? field(depth - 1) : {}, "__proto__", 0]],
      }),
      () => ({ kind: "connection", port: null, inbox: [[wire.OBJECT, 1]] }),
    ])();
  for (let round = 0; round < scale(20); round++) {
    const [conn, port] = exposed();
    const reading = (async () => {
      while (true) {
        try {
          await random.pick([() => conn.recv(), () => conn.recv_bytes()])();
        } catch (error) {
          if (error instanceof EOFError) return;
          if (!(error instanceof TypeError)) throw error;
        }
      }
    })();
    for (let i = 0; i < 100; i++) {
      const tag = random.pick(TAGS.filter((tag) => tag !== wire.EOF));
      port.post([tag, field(2), field(1), field(1)]);
    }
    port.post([wire.EOF]);
    await reading;
    conn.close();
    port.close();
  }
  assertEquals(({} as Any).polluted, undefined);
  assertEquals(Reflect.ownKeys(Object.prototype).length, before);
});

test("messages that look like the module's own are messages", async () => {
  const [a, b] = Pipe<Any>();
  const [c, d] = Pipe<Any>();
  const [packed] = pack({ x: 1 });
  const [held, transfer] = pack({ d });
  const values = [
    [wire.EOF],
    [wire.OBJECT, 1],
    [wire.TOOK, 1e9, 1e9],
    packed,
    { "@ipc/multiprocessing": 1, value: 2, endpoints: [], places: [] },
    { kind: "connection", pipe: "x", end: 0 },
  ];
  for (const value of values) {
    await a.send(value);
    a.send(value);
    a.send([value]);
    assertEquals(await b.recv(), value);
    assertEquals(await b.recv(), value);
    assertEquals(await b.recv(), [value]);
  }
  // What pack() made may also be sent as it is.
  await a.send(held, { transfer });
  const { d: moved } = unpack<Any>(await b.recv());
  await c.send("arrives");
  assertEquals(await moved.recv(), "arrives");
  for (const end of [a, b, c, moved]) end.close();
}, { needs: ["transfer"] });
