// What may happen between two operations on a queue's words that belong together: the thread ends, or others do
// something. Found by random histories that were torn there; here each is the shortest.

import { assert, assertEquals } from "@std/assert";
import { test } from "./_harness.ts";
import {
  beforeClaim,
  down,
  type Member,
  numberOf,
  settle,
  Token,
  up,
  withAtomics,
  World,
} from "./_world.ts";
import { FREED, ITEMS } from "../_wire.ts";
import {
  ADMITTED,
  BUSY,
  OFFERED,
  PUTS,
  SHARED,
  STATE,
  TAIL,
} from "../_words.ts";

const forever = [Infinity, undefined] as const;
const put = ({ client }: Member, item: unknown, timeout = Infinity) =>
  client.put(item, undefined, timeout, undefined);

function all(world: World): void {
  const moves = () =>
    world.members.some((m) => world.canRise(m) || world.canFall(m));
  while (moves()) {
    up(world, ...world.members);
    down(world, ...world.members);
  }
}

/** What came of a call; `waits` if nothing yet. */
async function outcome(call: Promise<unknown>): Promise<unknown> {
  let came: unknown = "waits";
  call.then(
    (value) => came = value,
    (error: Error) => came = error.name ?? error,
  );
  await settle();
  return came;
}

test("a get that does not wait is not refused while a handle looks for a copy for the first one", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 3 });
  const [a, b, c] = world.members as [Member, Member, Member];
  for (const item of [1, 2, 3]) await put(a, item);
  up(world, a);
  const first = b.client.get(...forever);
  const second = c.client.get(0, undefined);
  let met = false;
  const meanwhile = () => {
    met = true;
    up(world, b, c); // the owner hears both
  };
  beforeClaim(meanwhile, () => {
    b.client.receive([ITEMS, 0, 0, 0, 0, [1]]); // a copy posted unasked
  });
  assert(met);
  up(world, b);
  down(world, b, c);
  assertEquals([await outcome(first), await outcome(second)], [1, 2]);
});

test("a thread that ends between the two counts of a waiting put takes nobody's place in line", async () => {
  const world = new World({ maxsize: 1, words: true, remotes: 3 });
  const [a, b, c] = world.members as [Member, Member, Member];
  await put(b, 1);
  up(world, b);
  const got = c.client.get(...forever);
  up(world, c);
  put(b, 13); // waits; that is on its way
  a.handle.words[BUSY] = 1;
  Atomics.add(a.handle.words, OFFERED, 1);
  world.end(a);
  up(world, a);
  assertEquals(Atomics.load(world.core.words, PUTS), 1);
  down(world, c);
  assertEquals(await got, 1); // there is room
  put(b, 14);
  all(world);
  const order: unknown[] = [];
  for (let i = 0; i < 2; i++) {
    const next = c.client.get(...forever);
    all(world);
    order.push(await next);
    all(world);
  }
  assertEquals(order, [13, 14]);
});

for (const what of ["get", "join"] as const) {
  test(`a ${what} goes on when a waiting put was all that the owner did not know of`, async () => {
    const world = new World({
      maxsize: 1,
      words: true,
      remotes: 3,
      joinable: true,
    });
    const [a, b, c] = world.members as [Member, Member, Member];
    a.handle.words[BUSY] = 1;
    Atomics.add(world.core.words, TAIL, 1); // and not in `ADMITTED`
    world.end(a);
    const waits = what === "get"
      ? b.client.get(...forever)
      : b.client.join(undefined);
    up(world, b);
    const shut = b.client.shutdown(false);
    const refused = put(c, 1);
    for (const call of [waits, refused]) call.catch(() => {}); // looked at later
    up(world, a, b);
    all(world);
    await shut;
    assertEquals(await outcome(refused), "ShutDown");
    assertEquals(await outcome(waits), what === "get" ? "ShutDown" : undefined);
  });
}

test("puts that keep a place stay in order while the owner waits to count anew", async () => {
  const world = new World({ maxsize: 3, words: true, remotes: 2, local: true });
  const [own, a, b] = world.members as [Member, Member, Member];
  for (const i of [0, 1, 2]) await put(own, i);
  const items = [{ token: new Token("10") }, 11, 12, 13];
  const many = own.client.putMany(items, ...forever);
  b.handle.words[SHARED] = 1; // the owner has not heard of that handle
  a.handle.words[BUSY] = 1;
  world.end(a);
  up(world, a);
  const got = (await own.client.getMany(3, ...forever)).map(numberOf);
  for (let i = 0; i < 4; i++) {
    got.push(numberOf(await own.client.get(...forever)));
  }
  await many;
  assertEquals(got, [0, 1, 2, 10, 11, 12, 13]);
});

test("a put that fails while the owner counts anew leaves no place taken", async () => {
  const world = new World({ maxsize: 1, words: true, remotes: 3 });
  const [a, b, c] = world.members as [Member, Member, Member];
  const { words } = world.core;
  a.handle.words[BUSY] = 1;
  world.end(a);
  const real = globalThis.Atomics;
  let loads = 0;
  const load: typeof real.load = (...args) => {
    const [array, at] = args;
    // deno-lint-ignore no-explicit-any
    const look = () => (real.load as any)(...args);
    if (array !== b.handle.words || at !== ADMITTED || ++loads !== 2) {
      return look();
    }
    const both = (by: number) => {
      real.add(words, TAIL, by);
      real.add(b.handle.words, ADMITTED, by);
    };
    both(1);
    const value = look();
    both(-1); // it could not be cloned
    b.up.push([FREED]);
    return value;
  };
  withAtomics({ load }, () => up(world, a));
  assert(loads >= 2);
  all(world);
  const next = put(c, 1);
  all(world);
  assertEquals(await outcome(next), undefined);
});

test("a get of several waits for nothing when all that was put is there", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 3 });
  const [one, other, sharer] = world.members as [Member, Member, Member];
  sharer.handle.words[SHARED] = 1; // on its way
  await put(other, 1);
  const many = one.client.getMany(5, ...forever);
  up(world, one, other); // the get first
  down(world, one);
  assertEquals(await outcome(many), [1]);
});

test("a handle that was idle while two thousand million items went by is sent copies again", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 2 });
  const [one, idle] = world.members as [Member, Member];
  idle.handle.ahead = 0x7fff_0000;
  for (const item of [1, 2, 3]) await put(one, item);
  up(world, one);
  const got = idle.client.get(...forever);
  up(world, idle);
  const [, , , , claimed, items] = idle.down[0] as unknown[];
  assertEquals([claimed, items], [1, [1, 2, 3]]);
  down(world, idle);
  assertEquals(await got, 1);
});

test("a get is not told ShutDown while what was put before the shutdown is there", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 2 });
  const [getter, other] = world.members as [Member, Member];
  const real = globalThis.Atomics;
  let looks = 0;
  let shut: Promise<void> | undefined;
  const load: typeof real.load = (...args) => {
    if (args[0] === world.core.words && args[1] === STATE && ++looks === 2) {
      put(other, 1);
      shut = other.client.shutdown(false);
      up(world, other);
    }
    // deno-lint-ignore no-explicit-any
    return (real.load as any)(...args);
  };
  let got: Promise<unknown> | undefined;
  withAtomics({ load }, () => got = getter.client.get(...forever));
  all(world);
  assertEquals(await got, 1);
  await shut;
});
