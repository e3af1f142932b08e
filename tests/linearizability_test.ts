// What threads saw of a queue, in real time, against what a bounded first-in-first-out queue may show.
//
// Every call lies between two readings of a counter in shared memory. An item is certainly in the queue
// from the end of its put to the start of its get, and possibly from the start of its put to the end of
// its get: with distinct items that decides whether an answer can be true.

import { assert, assertEquals } from "@std/assert";
import { Queue } from "../mod.ts";
import { queueTest } from "./_holder.ts";
import {
  Random,
  scale,
  seed,
  spawnTask,
  test,
  type TestOptions,
} from "./_harness.ts";
import { getAndNote, getWhatIsTold, type Op } from "./workers/history_tasks.ts";

const module = new URL("./workers/history_tasks.ts", import.meta.url);
const options: TestOptions = { needs: ["workers", "shared"], deadline: 60_000 };

interface Span {
  put: Op;
  get: Op;
}

/** Each item's put and get; every one is put once and got once. */
function spansOf(ops: Op[], count: number): Span[] {
  const puts = new Map<number, Op>();
  const gets = new Map<number, Op>();
  for (const op of ops) {
    if (op.kind !== "put" && op.kind !== "get") continue;
    const seen = op.kind === "put" ? puts : gets;
    for (const item of op.items) {
      assert(!seen.has(item), `${op.kind} ${item} twice`);
      seen.set(item, op);
    }
  }
  // A put that was aborted has no end; then it must not have been stored.
  assertEquals([puts.size, gets.size], [count, count]);
  return [...puts].sort(([a], [b]) => a - b).map(([item, put]) => {
    const get = gets.get(item);
    assert(get, `${item} was lost`);
    assert(put.start < get.end, `${item} was got before it was put`);
    return { put, get };
  });
}

/** Items of one handle come out in the order in which they were put. */
function checkOrder(spans: Span[], producers: number): void {
  const each = spans.length / producers;
  spans.forEach(({ get }, item) => {
    if (item % each === 0) return;
    const before = spans[item - 1]!.get;
    const inOrder = before === get
      ? get.items.indexOf(item - 1) < get.items.indexOf(item)
      : before.start < get.end;
    assert(inOrder, `${item} overtook ${item - 1}`);
  });
}

/** How many items are in the queue: at least at all times of a call, at most at any. */
function counts(
  spans: Span[],
  { start, end, thread }: Op,
  shared: boolean,
): [number, number] {
  let least = 0;
  const changes: [number, number][] = [];
  for (const { put, get } of spans) {
    if (put.end < start && get.start > end) least++;
    // Without shared memory the owner hears later that another thread has received an item.
    const left = shared || get.thread === thread ? get.end : end;
    if (put.start >= end || left <= start) continue;
    changes.push([Math.max(put.start, start), 1], [Math.min(left, end), -1]);
  }
  changes.sort(([a, x], [b, y]) => a - b || y - x);
  let [now, most] = [0, 0];
  for (const [, change] of changes) most = Math.max(most, now += change);
  return [least, most];
}

/** The most items that were certainly there at one moment. */
function highest(spans: Span[]): number {
  const changes = spans.filter(({ put, get }) => put.end < get.start)
    .flatMap(({ put, get }) => [[put.end, 1], [get.start, -1]] as const)
    .sort(([a], [b]) => a - b);
  let [now, most] = [0, 0];
  for (const [, change] of changes) most = Math.max(most, now += change);
  return most;
}

/** What a history is of. */
interface World {
  count: number;
  producers: number;
  maxsize: number;
  shared: boolean;
  /** No item is ever on its way to a get that was given up, and hard to see until it is back. */
  seen: boolean;
}

function check(ops: Op[], world: World): void {
  const { count, producers, maxsize, shared, seen } = world;
  const spans = spansOf(ops, count);
  if (seen) checkOrder(spans, producers);
  const bound = maxsize > 0 ? maxsize : Infinity;
  assert(highest(spans) <= bound, `${highest(spans)} items at one time`);
  for (const op of ops) {
    const { kind, start, end } = op;
    if (kind === "put" || kind === "get" || kind === "aborted") continue;
    const [least, most] = counts(spans, op, shared);
    const what = `${JSON.stringify(op)}, between ${least} and ${most} items`;
    if (kind === "empty") assert(least === 0 || !seen, what);
    else if (kind === "size") {
      const [size] = op.items as [number];
      assert(least <= size && size <= Math.min(most, bound), what);
    } else {
      // None overtakes a put that waits.
      const behind = ops.some((put) =>
        put.call === "put" && put !== op && put.start < end && put.end > start
      );
      assert(most >= bound || behind, what);
    }
  }
}

queueTest(
  "Queue shows threads what a first-in-first-out queue may show",
  async (how) => {
    const random = new Random(seed());
    for (let round = 0; round < scale(6); round++) {
      const maxsize = [0, 1, 3][round % 3]!;
      const q = new Queue<number>(maxsize);
      const clock = new Int32Array(new SharedArrayBuffer(4));
      const shared = how === "shared memory";
      const patient = round % 2 === 0;
      let threads = 0;
      const given = () => ({
        q,
        clock,
        thread: threads++,
        seed: random.int(2 ** 31),
        shared,
        patient,
      });
      const each = 200;
      const puts = [0, 1].map((i) =>
        spawnTask<Op[]>("putAndNote", {
          ...given(),
          from: i * each,
          to: (i + 1) * each,
        }, { module })
      );
      const gets = [0, 1].map(() =>
        spawnTask<Op[]>("getAndNote", given(), { module })
      );
      // The owner's thread gets too, by a handle of its own.
      const here = round % 3 === 0 ? getAndNote(given()) : Promise.resolve([]);
      const ops = await Promise.all(puts.map(({ result }) => result));
      await q.shutdown();
      ops.push(...await Promise.all(gets.map(({ result }) => result)));
      ops.push(await here);
      const world = { count: 2 * each, producers: 2, maxsize, shared };
      check(ops.flat(), { ...world, seen: shared || patient });
      q.close();
    }
  },
  options,
);

test(
  "put_nowait() is not refused for a put that has timed out, while the owner is busy",
  async () => {
    const q = new Queue<number>(2);
    const words = new Int32Array(new SharedArrayBuffer(12));
    const task = spawnTask("putAfterTimeout", { puts: q, gets: q, words }, {
      module,
    });
    while (Atomics.load(words, 1) === 0) {
      await new Promise((r) => setTimeout(r));
    }
    Atomics.store(words, 2, 1);
    const late = Date.now() + 10_000;
    while (Atomics.load(words, 0) === 0 && Date.now() < late);
    assertEquals(await task.result, ["1", "2", "Full", "put"]);
    assertEquals([await q.get(), await q.get()], [3, 5]);
    q.close();
  },
  options,
);

queueTest(
  "get_nowait() finds what a put that has resolved in another thread has stored",
  async () => {
    const count = scale(25_000); // and as many in the other three ways
    for (const owner of [true, false]) {
      const q = new Queue<number>();
      const told = new Int32Array(new SharedArrayBuffer(4));
      const args = { q, count, told };
      const put = spawnTask("putAndTell", args, { module });
      const missed = owner
        ? await getWhatIsTold({ q, count, told })
        : await spawnTask("getWhatIsTold", args, { module }).result;
      assertEquals(missed, 0);
      await put.result;
      q.close();
    }
  },
  options,
);
