// Random histories of the queue's state machines, in a simulated world (see `_world.ts`).
//
// Calm histories: after each call everything is delivered, and each outcome is compared with that of a
// naive queue: an array and two lists of who waits. Wild histories: calls, frames, timeouts, aborts,
// closes and deaths in any order; after every step the invariants hold and every item is in one place,
// and at the end nothing is lost, doubled, out of order or waiting.
//
// HISTORIES is how many of each kind; SEED repeats a run.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { env, Random, scale, seed, test } from "./_harness.ts";
import { type Clock, withClock } from "./_clock.ts";
import {
  beforeClaim,
  deliver,
  down,
  type Exchange,
  type Member,
  numberOf,
  settle,
  Token,
  up,
  withAtomics,
  World,
} from "./_world.ts";
import { FREED, GET, ITEMS } from "../_wire.ts";
import {
  ADMITTED,
  allDone,
  BELL,
  BUSY,
  DONE,
  DROPPED,
  FIRST_SLOT,
  GOT,
  HEAD,
  OFFERED,
  POSTED,
  PUTS,
  QUEUE_WORDS,
  SHARED,
  sizeOf,
  STATE,
  TAIL,
  WANTED,
} from "../_words.ts";

const count = Number(env("HISTORIES")) || scale(1500);

type Outcome = { ok: unknown } | { error: string };

/** One call on a handle, and what came of it. */
interface Call {
  member: Member;
  kind: string;
  started: number;
  /** The milliseconds of its timeout, which no other call has. */
  ms?: number;
  aborter?: AbortController;
  items: number[];
  wait: boolean;
  outcome?: Outcome;
}

let lastMs = 1000;

/** What both kinds of histories share: a world, its calls, and a log. */
class History {
  readonly random: Random;
  readonly clock: Clock;
  readonly world: World;
  readonly calls: Call[] = [];
  readonly log: string[] = [];
  readonly got: Set<number> = new Set();
  /** Who received what, in order. */
  readonly receipts: { member: Member; item: number; many: boolean }[] = [];
  readonly puts: Map<number, Call> = new Map();
  readonly tokens: Token[] = [];
  step = 0;
  #items = 0;

  constructor(random: Random, clock: Clock) {
    this.random = random;
    this.clock = clock;
    this.world = new World({
      maxsize: random.pick([0, 1, 2, 3, 5]),
      words: random.chance(0.6),
      remotes: 1 + random.int(4),
      local: random.chance(0.3),
      joinable: random.chance(),
    });
    const { core, members } = this.world;
    this.log.push(
      `maxsize ${core.maxsize}, ${members.length} handles, words: ${
        members.map(({ handle }) => !handle.blind)
      }`,
    );
  }

  /** Handles whose thread runs. */
  get alive(): Member[] {
    return this.world.members.filter((member) => member.alive);
  }

  get usable(): Member[] {
    return this.alive.filter(({ client }) => !client.closed);
  }

  /** Numbers for items; with tokens every one of them lives once. */
  fresh(): number {
    return ++this.#items;
  }

  start(
    kind: string,
    member: Member,
    items: number[],
    run: (
      timeout: number,
      signal: AbortSignal | undefined,
    ) => Promise<unknown>,
    how: string = this.random.pick(["wait", "wait", "no", "ms", "signal"]),
  ): Call {
    const call: Call = {
      member,
      kind,
      started: this.step,
      items,
      wait: how !== "no",
    };
    if (how === "ms") call.ms = ++lastMs;
    if (how === "signal") call.aborter = new AbortController();
    this.calls.push(call);
    for (const item of items) this.puts.set(item, call);
    this.log.push(`${this.step} ${member.index}: ${kind} ${items} ${how}`);
    const timeout = how === "no" ? 0 : call.ms ?? Infinity;
    run(timeout, call.aborter?.signal).then(
      (ok) => this.#settled(call, { ok }),
      (error) => this.#settled(call, { error: error?.name ?? String(error) }),
    );
    return call;
  }

  #settled(call: Call, outcome: Outcome): void {
    if (!call.member.alive) return;
    assert(call.outcome === undefined, "a call settles once");
    call.outcome = outcome;
    this.log.push(`${this.step}   ${call.kind}: ${JSON.stringify(outcome)}`);
    if (!("ok" in outcome) || !call.kind.startsWith("get")) return;
    const many = call.kind === "get_many";
    const items = (many ? outcome.ok : [outcome.ok]) as unknown[];
    for (const value of items) {
      const item = numberOf(value);
      assert(!this.got.has(item), `item ${item} was got twice`);
      this.got.add(item);
      this.receipts.push({ member: call.member, item, many });
    }
    if (many) outcome.ok = items.map(numberOf);
    else outcome.ok = numberOf(outcome.ok);
  }

  put(member: Member, how?: string): Call {
    const item = this.fresh();
    return this.start(
      "put",
      member,
      [item],
      (ms, signal) => member.client.put(item, undefined, ms, signal),
      how,
    );
  }

  get(member: Member, how?: string): Call {
    return this.start(
      "get",
      member,
      [],
      (ms, signal) => member.client.get(ms, signal),
      how,
    );
  }

  getMany(member: Member, how?: string): Call {
    const max = 1 + this.random.int(4);
    return this.start(
      "get_many",
      member,
      [],
      (ms, signal) => member.client.getMany(max, ms, signal),
      how,
    );
  }

  /** Delivers one frame somewhere; returns whether there was one. */
  deliver(): boolean {
    const { world, random } = this;
    const rising = world.members.filter((member) => world.canRise(member));
    const falling = world.members.filter((member) => world.canFall(member));
    const which = random.int(rising.length + falling.length);
    if (rising.length + falling.length === 0) return false;
    if (which < rising.length) {
      const member = rising[which]!;
      this.log.push(`${this.step} ${member.index} → ${member.up[0]}`);
      world.rise(member);
    } else {
      const member = falling[which - rising.length]!;
      this.log.push(`${this.step} ${member.index} ← ${member.down[0]}`);
      world.fall(member);
    }
    return true;
  }

  /** Delivers everything. */
  async calm(): Promise<void> {
    await this.after();
    while (this.deliver()) await this.after();
  }

  async after(): Promise<void> {
    await settle();
    if (env("WORDS")) this.log.push(`${this.world.core.words}`);
    this.world.check(this.got);
    this.step++;
  }

  pending(): Call[] {
    return this.calls.filter(({ outcome, member }) =>
      outcome === undefined && member.alive
    );
  }

  /** Ends a call that waits by its timeout or signal. */
  giveUp(call: Call): void {
    this.log.push(`${this.step} ${call.member.index}: gives up ${call.kind}`);
    if (call.ms) this.clock.fire(call.ms);
    else call.aborter?.abort();
  }

  kill(member: Member): void {
    if (member.handle.local) return; // with it, everything would end
    this.log.push(`${this.step} ${member.index}: ends`);
    this.world.end(member);
  }

  /** What has to hold when all is over; leaves nothing that waits. */
  async finish(): Promise<void> {
    const { world } = this;
    const { words } = world.core;
    await this.calm();
    if (this.usable.length > 0 && this.random.chance(0.8)) await this.drain();
    const [first] = this.usable;
    if (first) {
      this.start("shutdown", first, [], () => first.client.shutdown(false));
      await this.calm();
      for (const { kind, wait } of this.pending()) {
        const stays = kind === "join" || kind === "join_thread";
        const left = Atomics.load(words, TAIL) - Atomics.load(words, GOT);
        assert(stays || (left > 0 && wait), `${kind} waits after a shutdown`);
      }
    }
    for (const { client } of this.alive) client.close();
    await this.calm();
    const [last] = this.alive;
    while (last && world.core.joinable) {
      const call = this.start(
        "task_done",
        last,
        [],
        () => last.client.taskDone(),
        "wait",
      );
      await this.calm();
      if (!call.outcome || "error" in call.outcome) break;
    }
    await this.calm();
    for (const member of this.alive) {
      this.start(
        "join_thread",
        member,
        [],
        () => member.client.joinThread(undefined),
        "wait",
      );
    }
    await this.calm();
    for (const { kind } of this.pending()) {
      assert(kind === "join", `${kind} still waits at the end`);
    }
    for (const { open, alive, gone } of world.members) {
      if (!alive) assert(gone, "the owner knows who is gone");
      else if (!world.core.joinable) assert(!open, "every port is closed");
    }
    for (const { client, alive } of world.members) {
      if (!alive || world.core.joinable) client.ownerEnded();
    }
    await settle();
    assertEquals(this.pending().map(({ kind }) => kind), [], "all settled");
    assertEquals(this.clock.pending(), [], "no timer is left");
  }

  /** Gets all that there is, and looks whether it is all that has been put. */
  async drain(): Promise<void> {
    const { world } = this;
    const { words } = world.core;
    const [member] = this.usable as [Member];
    while (true) {
      const { outcome } = this.get(member, "no");
      await this.calm();
      const last = this.calls[this.calls.length - 1]!.outcome ?? outcome;
      assert(last, "a get that does not wait is answered");
      if ("error" in last) break;
    }
    for (const { kind } of this.pending()) {
      assert(!kind.startsWith("put"), "no put waits while the queue is empty");
    }
    assertEquals(Atomics.load(words, TAIL), Atomics.load(words, GOT), "empty");
    assertEquals(world.available().size, 0, "nothing is left");
    for (const [item, { kind, outcome }] of this.puts) {
      if (!outcome) continue;
      if ("error" in outcome) {
        if (kind === "put_many") continue;
        assert(!this.got.has(item), `item ${item} was refused, and got`);
      } else if (Atomics.load(words, STATE) !== DROPPED) {
        const is = this.got.has(item) || world.lost.has(item) ||
          this.dropped.has(item);
        assert(is, `item ${item} was lost`);
      }
    }
    this.checkPrefixes();
    this.checkOrder();
  }

  /** Items of handles that were terminated before they could look at them. */
  readonly dropped: Set<number> = new Set();

  checkPrefixes(): void {
    const { world } = this;
    for (const { kind, items } of this.calls) {
      if (kind !== "put_many") continue;
      const put = items.map((item) =>
        this.got.has(item) || this.dropped.has(item) || world.lost.has(item)
      );
      if (Atomics.load(world.core.words, STATE) === DROPPED) continue;
      const end = put.indexOf(false);
      assert(end < 0 || !put.slice(end).includes(true), `prefix of ${items}`);
    }
  }

  /** Each handle has got the items of each producer in order, but for what had come back. */
  checkOrder(): void {
    const last = new Map<string, number>();
    for (const { member, item } of this.receipts) {
      const call = this.puts.get(item)!;
      const producer = call.kind === "put_many"
        ? `many ${call.items[0]}`
        : call.member.index;
      const key = `${member.index} from ${producer}`;
      const before = last.get(key) ?? 0;
      if (this.world.strayed(item, member)) continue;
      assert(before < item, `${key}: ${before} before ${item}`);
      last.set(key, item);
    }
  }
}

/** Runs histories with timers that fire when told to; a failure prints its history. */
async function histories(
  make: (random: Random, clock: Clock) => History,
  run: (history: History) => Promise<void>,
): Promise<void> {
  const first = seed();
  for (let i = 0; i < count; i++) {
    // The event loop, timers and garbage collection have their turns.
    if (i % 100 === 99) await new Promise((done) => setTimeout(done));
    await withClock(async (clock) => {
      Token.alive.clear();
      const history = make(new Random(first + i), clock);
      try {
        await run(history);
      } catch (error) {
        console.error(`History SEED=${first + i} HISTORIES=1`);
        console.error(history.log.join("\n"));
        throw error;
      }
    });
  }
}

// --- Calm ------------------------------------------------------------------------

interface Waiting {
  call: Call;
  max: number;
}

/** A queue as one would write it with an array, in one thread. */
class Naive {
  readonly maxsize: number;
  items: number[] = [];
  getters: Waiting[] = [];
  putters: Call[] = [];
  joiners: Call[] = [];
  unfinished = 0;
  shut = false;
  ended = false;
  readonly outcomes: Map<Call, Outcome> = new Map();

  constructor(maxsize: number) {
    this.maxsize = maxsize;
  }

  #room(): boolean {
    return this.maxsize === 0 || this.items.length < this.maxsize;
  }

  #end(call: Call, outcome: Outcome): void {
    this.outcomes.set(call, outcome);
  }

  put(call: Call): void {
    if (this.shut) return this.#end(call, { error: "ShutDown" });
    if (this.putters.length === 0 && this.#room()) return this.#store(call);
    if (!call.wait) return this.#end(call, { error: "Full" });
    this.putters.push(call);
  }

  #store(call: Call): void {
    this.items.push(call.items[0]!);
    this.unfinished++;
    this.#end(call, { ok: undefined });
    const getter = this.getters.shift();
    if (getter) this.#take(getter);
  }

  get(call: Call, max: number): void {
    if (this.items.length > 0) this.#take({ call, max });
    else if (this.shut) this.#end(call, { error: "ShutDown" });
    else if (!call.wait) this.#end(call, { error: "Empty" });
    else this.getters.push({ call, max });
  }

  #take({ call, max }: Waiting): void {
    const items = this.items.splice(0, max);
    this.#end(call, { ok: call.kind === "get" ? items[0] : items });
    while (this.putters.length > 0 && this.#room()) {
      this.#store(this.putters.shift()!);
    }
    if (this.shut && this.items.length === 0) this.#refuse();
  }

  #refuse(): void {
    for (const { call } of this.getters) this.#end(call, { error: "ShutDown" });
    this.getters = [];
  }

  giveUp(call: Call): void {
    const waits = this.putters.includes(call) || this.joiners.includes(call) ||
      this.getters.some((getter) => getter.call === call);
    if (!waits) return;
    this.forget((other) => other === call);
    const error = !call.ms
      ? "AbortError"
      : call.kind === "put"
      ? "Full"
      : "Empty";
    this.#end(call, { error });
  }

  forget(which: (call: Call) => boolean): void {
    this.putters = this.putters.filter((call) => !which(call));
    this.joiners = this.joiners.filter((call) => !which(call));
    this.getters = this.getters.filter(({ call }) => !which(call));
  }

  close(member: Member): void {
    for (const { call } of this.getters) {
      if (call.member === member) this.#end(call, { error: "OSError" });
    }
    this.getters = this.getters.filter(({ call }) => call.member !== member);
  }

  kill(member: Member): void {
    this.getters = this.getters.filter(({ call }) => call.member !== member);
    this.joiners = this.joiners.filter((call) => call.member !== member);
  }

  /** No handle is left that could get anything. */
  end(): void {
    for (const call of this.putters) this.#end(call, { error: "OSError" });
    this.putters = [];
    this.ended = true;
  }

  shutdown(immediate: boolean): void {
    this.shut = true;
    for (const call of this.putters) this.#end(call, { error: "ShutDown" });
    this.putters = [];
    if (immediate) {
      this.#done(this.items.length);
      this.items = [];
    }
    if (this.items.length === 0) this.#refuse();
  }

  taskDone(call: Call): void {
    if (this.unfinished === 0) this.#end(call, { error: "RangeError" });
    else {
      this.#end(call, { ok: undefined });
      this.#done(1);
    }
  }

  #done(count: number): void {
    this.unfinished -= Math.min(count, this.unfinished);
    if (this.unfinished > 0) return;
    for (const call of this.joiners) this.#end(call, { ok: undefined });
    this.joiners = [];
  }

  join(call: Call): void {
    if (this.unfinished === 0) this.#end(call, { ok: undefined });
    else this.joiners.push(call);
  }
}

class CalmHistory extends History {
  readonly naive: Naive = new Naive(this.world.core.maxsize);

  /** One random call or event, here and in the naive queue. */
  act(): void {
    const { random, naive } = this;
    const member = random.pick(this.usable);
    const { client } = member;
    const dice = random.int(100);
    if (dice < 35) naive.put(this.put(member));
    else if (dice < 65) naive.get(this.get(member), 1);
    else if (dice < 72) {
      const max = 1 + random.int(4);
      const call = this.start(
        "get_many",
        member,
        [],
        (ms, signal) => client.getMany(max, ms, signal),
      );
      naive.get(call, max);
    } else if (dice < 85) {
      const can = this.pending().filter(({ ms, aborter }) => ms || aborter);
      if (can.length === 0) return;
      const call = random.pick(can);
      this.giveUp(call);
      naive.giveUp(call);
    } else if (dice < 92 && !this.world.core.joinable) {
      return;
    } else if (dice < 89) {
      naive.taskDone(
        this.start("task_done", member, [], () => client.taskDone(), "wait"),
      );
    } else if (dice < 92) {
      naive.join(
        this.start(
          "join",
          member,
          [],
          (_, signal) => client.join(signal),
          "signal",
        ),
      );
    } else if (dice < 95) {
      this.kill(member);
      if (!member.alive) naive.kill(member);
      if (this.usable.length === 0) naive.end();
    } else if (dice < 98) {
      this.log.push(`${this.step} ${member.index}: closes`);
      client.close();
      naive.close(member);
      if (this.usable.length === 0) naive.end();
    } else {
      const immediate = random.chance(0.3);
      this.start(
        "shutdown",
        member,
        [],
        () => client.shutdown(immediate),
        "wait",
      );
      naive.shutdown(immediate);
    }
  }

  compare(): void {
    for (const call of this.calls) {
      if (call.kind === "shutdown" || !call.member.alive) continue;
      const naive = this.naive.outcomes.get(call);
      const label = `${call.kind} ${call.items} of step ${call.started}`;
      assertEquals(call.outcome, naive, label);
    }
    if (this.naive.ended) return;
    const { words } = this.world.core;
    assertEquals(
      Atomics.load(words, TAIL) - Atomics.load(words, GOT),
      this.naive.items.length,
      "size",
    );
    assertEquals(Atomics.load(words, PUTS), this.naive.putters.length, "PUTS");
  }
}

test("QueueCore and Client do what a naive queue does", async () => {
  await histories(
    (random, clock) => new CalmHistory(random, clock),
    async (given) => {
      const history = given as CalmHistory;
      const { random } = history;
      if (random.chance(0.03) && history.usable.length > 0) {
        // More calls than there are slots for giving up.
        for (let i = 0; i < 32; i++) {
          history.naive.get(history.get(history.usable[0]!, "ms"), 1);
        }
        await history.calm();
      }
      const steps = 5 + random.int(40);
      for (let i = 0; i < steps && history.usable.length > 0; i++) {
        history.act();
        await history.calm();
        history.compare();
      }
      for (const item of history.naive.items) history.dropped.add(item);
      await history.finish();
    },
  );
}, { deadline: 3_600_000 });

// --- Wild ------------------------------------------------------------------------

class WildHistory extends History {
  /** Since when an item has been there to be got, and since when its put has resolved. */
  readonly #there = new Map<number, number>();
  readonly #resolved = new Map<number, number>();
  #fullAt = 0;
  #checked = 0;

  /** One random call or event; `again`: in the same turn as another. */
  act(again = false): void {
    const { random } = this;
    if (this.usable.length === 0) return;
    const member = random.pick(this.usable);
    const { client } = member;
    const dice = random.int(100);
    if (dice < 28) this.put(member);
    else if (dice < 34) this.#putToken(member);
    else if (dice < 38) this.#putMany(member);
    else if (dice < 66) this.get(member);
    else if (dice < 72) this.getMany(member);
    else if (dice < 88) {
      const can = this.pending().filter(({ ms, aborter }) => ms || aborter);
      if (can.length > 0) this.giveUp(random.pick(can));
    } else if (dice < 92 && !this.world.core.joinable) {
      return;
    } else if (dice < 90) {
      this.start("task_done", member, [], () => client.taskDone(), "wait");
    } else if (dice < 92) {
      this.start("join", member, [], (_, s) => client.join(s), "signal");
    } else if (dice < 93) {
      this.start("qsize", member, [], () => client.size(), "wait");
    } else if (dice < 96) {
      // Not in the turn in which it may have claimed an item: that is its own.
      if (!again) this.kill(member);
    } else if (dice < 99) {
      this.log.push(`${this.step} ${member.index}: closes`);
      client.close();
      this.start(
        "join_thread",
        member,
        [],
        () => client.joinThread(undefined),
        "wait",
      );
    } else {
      const immediate = random.chance(0.3);
      this.start(
        "shutdown",
        member,
        [],
        () => client.shutdown(immediate),
        "wait",
      );
    }
  }

  #putToken(member: Member): void {
    const item = this.fresh();
    const token = new Token(String(item));
    this.tokens.push(token);
    this.start(
      "put",
      member,
      [item],
      (ms, signal) => member.client.put({ token }, undefined, ms, signal),
    );
    if (this.random.chance(0.05)) token.close();
  }

  #putMany(member: Member): void {
    const items = Array.from(
      { length: 1 + this.random.int(5) },
      () => this.fresh(),
    );
    this.start(
      "put_many",
      member,
      items,
      (ms, signal) => member.client.putMany(items, ms, signal),
    );
  }

  override async after(): Promise<void> {
    await super.after();
    const { words, maxsize } = this.world.core;
    const available = this.world.available();
    const before = this.step - 1;
    for (const item of this.#there.keys()) {
      if (!available.has(item)) this.#there.delete(item);
    }
    for (const item of available) {
      if (!this.#there.has(item)) this.#there.set(item, before);
    }
    const size = Atomics.load(words, TAIL) - Atomics.load(words, GOT);
    const full = maxsize > 0 && size >= maxsize;
    if (full || Atomics.load(words, PUTS) > 0) this.#fullAt = before;
    for (const call of this.calls.slice(this.#checked)) {
      this.#judge(call, before);
    }
    while (this.calls[this.#checked]?.outcome) this.#checked++;
  }

  readonly #judged = new Set<Call>();

  /** `Empty` and `Full` only when true. */
  #judge(call: Call, now: number): void {
    const { outcome, kind, started, wait, items } = call;
    if (!outcome || this.#judged.has(call)) return;
    this.#judged.add(call);
    if ("ok" in outcome) {
      for (const item of items) this.#resolved.set(item, now);
      return;
    }
    if (wait) return;
    if (outcome.error === "Empty") {
      // A get_many that came earlier has been promised what is there, and waits for what is on its way.
      const promised = this.calls.some((other) =>
        other.kind === "get_many" && other.started < started && !other.outcome
      );
      if (promised) return;
      for (const [item, since] of this.#there) {
        const resolved = this.#resolved.get(item) ?? Infinity;
        assert(
          since >= started || resolved >= started,
          `Empty at ${now}, and item ${item} was there since ${since}`,
        );
      }
    } else if (outcome.error === "Full" && kind === "put") {
      assert(
        this.#fullAt >= started - 1,
        `Full at ${now}, and there was room since ${this.#fullAt}`,
      );
    }
  }
}

test(
  "QueueCore and Client keep their invariants in any order of events",
  async () => {
    await histories(
      (random, clock) => new WildHistory(random, clock),
      async (history) => {
        const { random } = history;
        const steps = 10 + random.int(80);
        const eager = random.next() * 0.8;
        for (let i = 0; i < steps; i++) {
          if (!random.chance(eager) || !history.deliver()) {
            (history as WildHistory).act();
            // Calls in one turn share posts.
            if (random.chance(0.2)) (history as WildHistory).act(true);
          }
          await history.after();
        }
        await history.finish();
        for (const [name, alive] of Token.alive) {
          assert(alive <= 1, `token ${name} lives ${alive} times`);
        }
      },
    );
  },
  { deadline: 3_600_000 },
);

test("Client waits, after a timeout, for what has been put and is on its way", () =>
  withClock(async (clock) => {
    const world = new World({ maxsize: 0, words: true, remotes: 2 });
    const [one, other] = world.members as [Member, Member];
    for (const max of [1, 2]) {
      const { client } = other;
      const got = max === 1
        ? client.get(1, undefined)
        : client.getMany(max, 1, undefined);
      world.rise(other); // it waits at the owner
      await one.client.put(7, undefined, Infinity, undefined);
      clock.fire(1);
      assertEquals(world.canRise(other), true, "only the owner can say");
      world.rise(other);
      assertEquals(world.canFall(other), false, "the item is on its way");
      world.rise(one);
      world.fall(other);
      assertEquals([await got].flat(), [7]);
      // Nothing is on its way: Empty.
      const none = client.get(1, undefined).catch(({ name }) => name);
      world.rise(other);
      clock.fire(1);
      up(world, other);
      down(world, other);
      assertEquals(await none, "Empty");
    }
  }));

test("QueueCore takes back what a thread counted and did not post before it ended", () => {
  const world = new World({ maxsize: 1, words: true, remotes: 2 });
  const [one] = world.members as [Member];
  const { words } = world.core;
  // In the midst of a put that would wait, and of one that has a place.
  Atomics.add(one.handle.words, OFFERED, 1);
  Atomics.add(words, PUTS, 1);
  Atomics.add(one.handle.words, ADMITTED, 1);
  Atomics.add(words, TAIL, 1);
  world.end(one);
  world.rise(one);
  assertEquals([Atomics.load(words, PUTS), Atomics.load(words, TAIL)], [0, 0]);
});

test("Client tells the owner of a put that it takes back", async () => {
  const world = new World({
    maxsize: 0,
    words: true,
    local: true,
    remotes: 2,
  });
  const [here, one, other] = world.members as [Member, Member, Member];
  // The owner has put so many itself that their number has wrapped: none is on its way.
  here.handle.arrived = -1;
  Atomics.store(here.handle.words, ADMITTED, here.handle.arrived);
  const words = [one.handle.words, world.core.words] as const;
  const count = (n: number) => {
    Atomics.add(words[0], POSTED, n);
    Atomics.add(words[0], ADMITTED, n);
    Atomics.add(words[1], TAIL, n);
  };
  count(1); // another thread sees a put in its midst
  const got = other.client.get(0, undefined).catch(({ name }) => name);
  world.rise(other);
  assertEquals(world.canFall(other), false, "it waits for what is to come");
  count(-1); // which cannot be cloned
  await one.client.put(() => {}, undefined, Infinity, undefined)
    .catch(() => {});
  up(world, one);
  world.fall(other);
  assertEquals(await got, "Empty");
});

test("Client: join_thread() waits for a put_many that is under way", async () => {
  const world = new World({ maxsize: 1, words: true, remotes: 2 });
  const [one, other] = world.members as [Member, Member];
  const putting = one.client.putMany(new Set([1, 2, 3]), Infinity, undefined);
  await settle();
  one.client.close();
  let joined = false;
  const join = one.client.joinThread(undefined).then(() => joined = true);
  const deliver = async (member: Member) => {
    up(world, member);
    down(world, member);
    await settle();
  };
  for (const item of [1, 2, 3]) {
    assertEquals(joined, false, `${item} has not been put`);
    await deliver(one);
    const got = other.client.get(Infinity, undefined);
    await deliver(other);
    await deliver(one);
    assertEquals(await got, item);
  }
  await putting;
  await deliver(one);
  await join;
});

test("Client rejects every call when the owner's thread ends", async () => {
  await histories(
    (random, clock) => new WildHistory(random, clock),
    async (history) => {
      const { random, world } = history;
      const steps = 5 + random.int(40);
      for (let i = 0; i < steps; i++) {
        if (!random.chance(0.4) || !history.deliver()) {
          (history as WildHistory).act();
        }
        await history.after();
      }
      // What the owner has posted still arrives, what comes to it does not.
      for (const member of world.members) {
        down(world, member);
        await settle();
        member.client.ownerEnded();
      }
      await settle();
      const left = history.pending().map(({ kind }) => kind);
      assertEquals(left, [], "all settled");
      for (const { client } of history.usable) {
        const late = await client.get(Infinity, undefined).catch((e) => e.name);
        assertEquals(late, "EOFError");
      }
      assertEquals(history.clock.pending(), [], "no timer is left");
    },
  );
}, { deadline: 3_600_000 });

for (const where of ["elsewhere", "with words", "here"]) {
  test(`Client that nobody holds any more closes once its calls have ended, ${where}`, async () => {
    const world = new World({
      maxsize: 1,
      words: where !== "elsewhere",
      local: where === "here",
      remotes: where === "here" ? 2 : 3,
      joinable: false,
    });
    const [one, two, other] = world.members as [Member, Member, Member];
    const got = one.client.get(Infinity, undefined);
    one.client.abandon();
    const putting = two.client.putMany(new Set([1, 2, 3]), Infinity, undefined);
    two.client.abandon();
    assertEquals([one.client.closed, two.client.closed], [false, false]);
    await deliver(world);
    assertEquals(await got, 1);
    assertEquals([one.client.closed, two.client.closed], [true, false]);
    for (const item of [2, 3]) {
      const next = other.client.get(Infinity, undefined);
      await deliver(world);
      assertEquals(await next, item);
    }
    await putting;
    await deliver(world);
    assertEquals([one.open, two.open], [false, false]);
  });
}

for (const where of ["elsewhere", "with words", "here"]) {
  test(`Client that nobody holds any more ends its joins before it closes, ${where}`, async () => {
    const world = new World({
      maxsize: 1,
      words: where !== "elsewhere",
      local: where === "here",
      remotes: where === "here" ? 1 : 2,
    });
    const [one, other] = world.members as [Member, Member];
    const putting = one.client.putMany([1, 2], Infinity, undefined);
    one.client.close();
    const done: string[] = [];
    one.client.joinThread(undefined).then(() => done.push("join_thread"));
    one.client.join(undefined).then(() => done.push("join"));
    one.client.abandon();
    await deliver(world);
    for (const item of [1, 2]) {
      const got = other.client.get(Infinity, undefined);
      await deliver(world);
      assertEquals(await got, item);
    }
    await putting;
    await deliver(world);
    assertEquals([one.open, done], [true, ["join_thread"]]);
    for (let i = 0; i < 2; i++) {
      const marked = other.client.taskDone();
      await deliver(world);
      await marked;
    }
    await deliver(world);
    assertEquals([one.open, done], [false, ["join_thread", "join"]]);
  });
}

test("Client that has given a put up keeps the reason, whatever comes after", () =>
  withClock(async (clock) => {
    const world = new World({ maxsize: 1, words: false, remotes: 1 });
    const [one] = world.members as [Member];
    const { client } = one;
    client.put(1, undefined, Infinity, undefined);
    const stop = new AbortController();
    const put = client.put(2, undefined, 5, stop.signal)
      .catch((reason) => reason);
    stop.abort("Mine");
    clock.fire(5); // the owner has not answered yet
    up(world, one);
    down(world, one);
    assertEquals(await put, "Mine");
  }));

test("Client: without shared memory a get that is late can still be aborted", () =>
  withClock(async (clock) => {
    const world = new World({ maxsize: 0, words: false, remotes: 2 });
    const [one, other] = world.members as [Member, Member];
    const stop = new AbortController();
    const got = one.client.get(5, stop.signal).catch((reason) => reason);
    clock.fire(5); // the owner does not answer
    stop.abort("Mine");
    assertEquals(await got, "Mine");
    const put = other.client.put(1, undefined, Infinity, undefined);
    await deliver(world);
    await put;
    const next = other.client.get(0, undefined);
    await deliver(world);
    assertEquals(await next, 1);
  }));

test("QueueCore takes no place for a put that was given up, not for a moment", async () => {
  const world = new World({ maxsize: 1, words: true, remotes: 2 });
  const [one, other] = world.members as [Member, Member];
  await one.client.put(1, undefined, Infinity, undefined);
  const stop = new AbortController();
  const given = one.client.put(2, undefined, Infinity, stop.signal)
    .catch((reason) => reason);
  up(world, one);
  stop.abort("given up"); // the owner has not heard of it yet
  const got = other.client.get(Infinity, undefined);
  const places: number[] = [];
  const real = globalThis.Atomics;
  const compareExchange = (...args: Exchange) => {
    if (args[0] === world.core.words && args[1] === TAIL) places.push(args[3]);
    return real.compareExchange(...args);
  };
  withAtomics({ compareExchange }, () => {
    up(world, other); // takes the first item out
    down(world, other);
    up(world, other, one);
  });
  assertEquals([await got, await given, places], [1, "given up", []]);
  assertEquals(await one.client.size(), 0);
});

test("Client asks the owner when its copies are ahead of what is claimed", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 1 });
  const [one] = world.members as [Member];
  one.client.receive([ITEMS, 0, 0, 5, 0, ["forged"]]);
  const got = one.client.get(0, undefined).catch(({ name }) => name);
  assertEquals(await got, "Empty");
});

for (const what of ["a get that waits", "copies that come", "the owner"]) {
  test(`QueueCore and Client: another handle is faster than ${what}`, async () => {
    const world = new World({ maxsize: 0, words: true, remotes: 3 });
    const [one, other, faster] = world.members as [Member, Member, Member];
    let got: Promise<unknown> | undefined;
    const claim = () => {
      faster.client.receive([ITEMS, 0, 0, 0, 0, [1]]); // a copy
      got = faster.client.get(Infinity, undefined);
    };
    const put = async (item: number) => {
      await one.client.put(item, undefined, Infinity, undefined);
    };
    if (what === "the owner") {
      await put(1);
      await put(2);
      world.rise(one);
      world.rise(one);
      let taken: unknown;
      beforeClaim(claim, () => taken = world.core.take());
      assertEquals([await got, taken], [1, 2]);
      return;
    }
    const waiting = other.client.get(Infinity, undefined);
    if (what === "a get that waits") {
      world.rise(other);
      await put(1);
      beforeClaim(claim, () => world.rise(one));
    } else {
      await put(1);
      world.rise(one);
      beforeClaim(claim, () => {
        other.client.receive([ITEMS, 0, 0, 0, 0, [1]]);
      });
    }
    assertEquals(await got, 1);
    await put(2);
    up(world, other);
    up(world, one);
    down(world, other);
    assertEquals(await waiting, 2);
  });
}

/** Everything that is on its way arrives. */
function deliverAll(world: World, members: Member[]): void {
  for (let i = 0; i < 4; i++) {
    for (const member of members) {
      up(world, member);
      down(world, member);
    }
  }
}

test("QueueCore and Client: gets of a handle keep their order when another handle is faster", async () => {
  for (const ownerLooks of [false, true]) {
    const world = new World({ maxsize: 0, words: true, remotes: 3 });
    const members = world.members as [Member, Member, Member];
    const [one, other, faster] = members;
    const put = async (item: number) => {
      await one.client.put(item, undefined, Infinity, undefined);
      world.rise(one);
    };
    const first = other.client.get(Infinity, undefined);
    const second = other.client.get(Infinity, undefined);
    await put(1);
    let got: Promise<unknown> | undefined;
    const by = () => {
      faster.client.receive([ITEMS, 0, 0, 0, 0, [1]]);
      got = faster.client.get(Infinity, undefined);
      if (ownerLooks) up(world, other);
    };
    beforeClaim(by, () => other.client.receive([ITEMS, 0, 0, 0, 0, [1]]));
    await put(2);
    await put(3);
    deliverAll(world, members);
    assertEquals([await got, await first, await second], [1, 2, 3]);
  }
});

test("QueueCore and Client: the owner goes on when a get that it met was served by a copy", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 3 });
  const members = world.members as [Member, Member, Member];
  const [one, other, third] = members;
  await one.client.put(1, undefined, Infinity, undefined);
  world.rise(one);
  const got = other.client.get(Infinity, undefined);
  await one.client.put(2, undefined, Infinity, undefined);
  const next = third.client.get(Infinity, undefined);
  const by = () => {
    for (const member of [other, one, third]) {
      up(world, member);
    }
  };
  beforeClaim(by, () => other.client.receive([ITEMS, 0, 0, 0, 0, [1]]));
  assertEquals(await got, 1);
  deliverAll(world, members);
  assertEquals(await next, 2);
});

test("QueueCore serves a get whose handle found no copy in that moment", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 2 });
  const [one, other] = world.members as [Member, Member];
  const words = other.handle.words;
  await one.client.put(1, undefined, Infinity, undefined);
  world.rise(one);
  const [id, slot] = [1, FIRST_SLOT];
  words[slot] = -id; // it looks
  const real = globalThis.Atomics;
  const compareExchange = (...args: Exchange) => {
    if (args[3] === WANTED) words[slot] = id; // it has found none
    return real.compareExchange(...args);
  };
  withAtomics({ compareExchange }, () => {
    world.core.receive(other.handle, [GET, id, slot, 1, true]);
  });
  assertEquals([words[slot], other.handle.inFlight.length], [0, 1]);
});

test("QueueCore counts what a thread claimed and did not count before it ended", async () => {
  for (const claimed of [0, 1]) {
    const world = new World({ maxsize: 0, words: true, remotes: 3 });
    const [one, other, third] = world.members as [Member, Member, Member];
    const { words } = world.core;
    for (const item of [1, 2, 3]) {
      await one.client.put(item, undefined, Infinity, undefined);
    }
    up(world, one);
    // One item is on its way to a get, or has come to it.
    const got = third.client.get(Infinity, undefined);
    world.rise(third);
    // In the midst of a claim.
    other.handle.words[BUSY] = 1;
    Atomics.add(words, HEAD, claimed);
    third.handle.words[BUSY] = 1; // this one just now, too
    world.end(other);
    world.rise(other);
    assertEquals(sizeOf(words), 3, "not yet");
    third.handle.words[BUSY] = 0;
    // And it has made a handle that the owner does not know yet.
    third.handle.words[SHARED] = 1;
    world.core.changed();
    assertEquals(sizeOf(words), 3, "not yet");
    third.handle.shared = 1;
    world.fall(third);
    assertEquals(await got, 1);
    await one.client.put(4, undefined, Infinity, undefined);
    up(world, one);
    world.core.changed();
    assertEquals(sizeOf(words), 3 - claimed);
    assertEquals(Atomics.load(words, HEAD) - Atomics.load(words, GOT), 0);
  }
});

test("Client tells an owner that waits for it when a put is over that posts nothing else", async () => {
  const world = new World({ maxsize: 1, words: true, remotes: 1 });
  const [one] = world.members as [Member];
  const { words } = world.core;
  await one.client.put(1, undefined, Infinity, undefined);
  one.up.length = 0;
  for (const [item, timeout] of [[2, 0], [() => {}, Infinity]] as const) {
    Atomics.store(words, BELL, 1);
    await assertRejects(() =>
      one.client.put(item, undefined, timeout, undefined)
    );
    assertEquals(one.up, [[FREED]]);
    one.up.length = 0;
  }
  one.client.ownerEnded();
});

test("QueueCore keeps nothing that its own handle has got", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 0, local: true });
  const { client, handle } = world.members[0]!;
  const got = client.get(Infinity, undefined);
  await client.put(1, undefined, Infinity, undefined);
  assertEquals([await got, handle.inFlight], [1, []]);
});

test("QueueCore keeps nothing that is put when every handle is closed", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 0, local: true });
  const [one] = world.members as [Member];
  one.client.close();
  await one.client.put(1, undefined, Infinity, undefined); // of a put_many under way
  assertEquals(world.core.inspect().store.size, 0);
});

test("put() that does not wait asks the owner when there is room, though a put that ended with its thread is counted", async () => {
  const world = new World({ maxsize: 2, words: true, remotes: 2 });
  const [one] = world.members as [Member];
  Atomics.add(world.core.words, PUTS, 1);
  const put = one.client.put(1, undefined, 0, undefined);
  up(world, one);
  down(world, one);
  await put;
});

test("QueueCore: a get that does not wait is not refused before a handle is known that was shared", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 3 });
  const members = world.members as [Member, Member, Member];
  const [sharer, getter, shared] = members;
  const { core } = world;
  core.handles.delete(shared.handle); // the owner has not heard of it
  sharer.handle.words[SHARED] = 1;
  await shared.client.put(1, undefined, Infinity, undefined);
  const got = getter.client.get(0, undefined);
  world.rise(getter);
  assert(!world.canFall(getter), "refused");
  core.handles.add(shared.handle);
  sharer.handle.shared = 1;
  core.changed();
  assert(!world.canFall(getter), "refused");
  deliverAll(world, members);
  assertEquals(await got, 1);
});

test("after an immediate shutdown nothing counts, though items are still on their way", async () => {
  const world = new World({ maxsize: 0, words: true, remotes: 2 });
  const members = world.members as [Member, Member];
  const [one, other] = members;
  await one.client.put(1, undefined, Infinity, undefined);
  const shut = other.client.shutdown(true);
  up(world, other);
  down(world, other);
  await shut;
  assertEquals([await one.client.size(), await other.client.size()], [0, 0]);
  deliverAll(world, members);
  assertEquals(await other.client.size(), 0);
});

test("QueueCore: without shared memory a get that was aborted holds no item back", async () => {
  const world = new World({ maxsize: 0, words: false, remotes: 2 });
  const members = world.members as [Member, Member];
  const [one, other] = members;
  const stop = new AbortController();
  const aborted = one.client.get(Infinity, stop.signal).catch((why) => why);
  world.rise(one);
  const put = other.client.put(1, undefined, Infinity, undefined);
  world.rise(other); // the item is on its way
  stop.abort("aborted");
  world.rise(one);
  const got = other.client.get(0, undefined);
  up(world, other);
  down(world, other);
  assertEquals([await aborted, await got], ["aborted", 1]);
  await put;
  deliverAll(world, members); // it comes back, too late to come out again
  const none = other.client.get(0, undefined).catch(({ name }) => name);
  deliverAll(world, members);
  assertEquals(await none, "Empty");
});

test("allDone() is not misled by what happens between its looks", () => {
  const words = new Int32Array(QUEUE_WORDS);
  words[TAIL] = 1; // an item that is not done
  const real = globalThis.Atomics;
  let looks = 0;
  const load = (...args: [Int32Array, number]) => {
    const value = real.load(...args);
    if (++looks === 1) { // one more is put, and one is done
      words[TAIL]!++;
      words[DONE]!++;
    }
    return value;
  };
  let done: boolean | undefined;
  withAtomics({ load }, () => done = allDone(words));
  assertEquals([done, looks], [false, 2]);
});
