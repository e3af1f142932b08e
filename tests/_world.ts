// A queue in a simulated world: its owner's state machine and its handles, the published ones, in one
// thread; the ports between them are arrays, whose frames arrive when the test says so, first in, first
// out on each port. A thread can be ended between any two steps: what it has posted still arrives, then
// its owner hears that it is gone.
//
// `check()` asserts the invariants at the head of `_core.ts`, and where each item is.

import { assert, assertEquals } from "@std/assert";
import { Client, type OwnerPort } from "../_client.ts";
import { QueueCore } from "../_core.ts";
import { Handle } from "../_handle.ts";
import { drop, Parcel, register } from "../_handoff.ts";
import type { Entry, List } from "../_list.ts";
import { remoteClient } from "../_owner.ts";
import type { OpenPort } from "../_port.ts";
import { plain, stored } from "../_snapshot.ts";
import {
  ANSWER,
  EOF,
  type Frame,
  FREED,
  GET,
  ITEMS,
  PUT,
  PUT_PARCEL,
  PUT_SEVERAL,
  PUT_WAIT,
  RECEIVED,
} from "../_wire.ts";
import {
  BACK,
  BELL,
  DROPPED,
  GOT,
  HANDLE_WORDS,
  HEAD,
  JOINERS,
  LAST_RECEIVED,
  OPEN,
  PUTS,
  QUEUE_WORDS,
  STATE,
  TAIL,
} from "../_words.ts";
import { runtime } from "./_runtime.ts";

/** An endpoint that is a name, and counts where it is alive. */
export class Token {
  readonly #brand = true;
  static readonly alive: Map<string, number> = new Map();
  readonly name: string;
  open = true;
  // deno-lint-ignore no-explicit-any
  private readonly uncloneable: any = () => {};

  constructor(name: string) {
    this.name = name;
    Token.alive.set(name, (Token.alive.get(name) ?? 0) + 1);
  }

  static is(value: object): value is Token {
    return #brand in value;
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    Token.alive.set(this.name, Token.alive.get(this.name)! - 1);
  }
}

register("token", {
  of: (value) =>
    Token.is(value) // not `instanceof`: a proxy may have been revoked
      ? {
        check() {
          if (!value.open) throw new TypeError("Closed");
        },
        give() {
          value.close();
          return { kind: "token", name: value.name };
        },
      }
      : undefined,
  make: ({ name }) => new Token(String(name)),
  ports: () => [],
});

/** A copy as a port makes it, of what these tests post. */
export function copied(
  value: unknown,
  copies: Map<unknown, unknown> = new Map(),
): unknown {
  if (typeof value === "function" || value instanceof Token) {
    throw new DOMException("Cannot be cloned", "DataCloneError");
  }
  if (typeof value !== "object" || value === null) return value;
  if (copies.has(value)) return copies.get(value);
  const copy = (Array.isArray(value) ? new Array(value.length) : {}) as Record<
    string,
    unknown
  >;
  copies.set(value, copy);
  for (const key of Object.keys(value)) {
    copy[key] = copied((value as Record<string, unknown>)[key], copies);
  }
  return copy;
}

/** The number of an item: items are numbers, or hold a token that is named by one. */
export function numberOf(stored: unknown): number {
  const item = plain(stored);
  if (typeof item === "number") return item;
  if (item instanceof Parcel) {
    const { endpoints } = item.message as { endpoints: { name: string }[] };
    return Number(endpoints[0]!.name);
  }
  const { token } = item as { token?: Token };
  if (token) return Number(token.name);
  const { endpoints } = item as { endpoints: { name: string }[] };
  return Number(endpoints[0]!.name);
}

/** A handle and the thread that it is in. */
export class Member {
  readonly index: number;
  client!: Client;
  handle!: Handle;
  /** Frames on their way to the owner, and from it. */
  readonly up: Frame[] = [];
  readonly down: Frame[] = [];
  /** Its thread runs. */
  alive = true;
  /** Its port is open at its side. */
  open = true;
  /** The owner knows that it is gone. */
  gone = false;
  constructor(index: number) {
    this.index = index;
  }
}

/** Options of {@linkcode World}. */
export interface WorldOptions {
  maxsize: number;
  /** Whether there is shared memory. */
  words: boolean;
  /** How many handles are in other threads. */
  remotes: number;
  /** Whether there is one in the owner's. */
  local?: boolean;
  joinable?: boolean;
  /** After how many new items copies are posted unasked. */
  pushStep?: number;
}

/** See the module's comment. */
export class World {
  readonly core: QueueCore;
  readonly members: Member[] = [];
  /** Items that were lost on their way to a thread that ended. */
  readonly lost: Set<number> = new Set();
  /** For each item, the delivery that it was last seen in. */
  readonly #deliveries = new Map<number, string>();
  /** Items that came back from a handle. */
  readonly returned: Set<number> = new Set();
  /** The order in which gets and waiting puts have reached the owner. */
  readonly #arrivals = new Map<string, number>();
  readonly #words: boolean;
  /** Frames on their way to the owner that were posted as text. */
  readonly #texts = new WeakSet<Frame>();
  /** Every handle is closed. */
  ended = false;
  /** A thread has ended between two operations on words that belong together; not all may be right yet. */
  torn = false;

  constructor(options: WorldOptions) {
    const { maxsize, words, remotes, local = false, joinable = true } = options;
    const { pushStep = 1 } = options;
    this.#words = words;
    const counters = new Int32Array(QUEUE_WORDS);
    this.core = new QueueCore(counters, maxsize, joinable, pushStep);
    if (local) this.members.push(this.#local(joinable));
    for (let i = 0; i < remotes; i++) this.members.push(this.#remote(joinable));
  }

  // As in `_owner.ts`.
  #local(joinable: boolean): Member {
    const { core } = this;
    const member = new Member(0);
    const mine = new Int32Array(HANDLE_WORDS);
    member.handle = new Handle(
      (frame) => {
        this.#sending(member, frame as Frame);
        member.client.receive(frame as Frame);
      },
      mine,
      true,
    );
    const port: OwnerPort = {
      put: (item) =>
        core.receive(member.handle, [PUT, stored(copied(item))], true),
      post: (frame) => {
        const [tag] = frame;
        if (tag === EOF) {
          member.open = false;
          member.gone = true;
          core.gone(member.handle);
          return this.#endIfClosed();
        }
        this.#arriving(member, frame as Frame);
        const copy = tag === PUT_WAIT ? copied(frame) : frame;
        core.receive(member.handle, copy as Frame);
        this.#endIfClosed();
      },
      take: () => core.take(),
      close: () => {},
      share: () => {
        throw new Error("Not here");
      },
    };
    member.client = new Client(port, core.maxsize, joinable, core.words, mine);
    core.handles.add(member.handle);
    return member;
  }

  #remote(joinable: boolean): Member {
    const { core } = this;
    const member = new Member(this.members.length);
    const mine = this.#words ? new Int32Array(HANDLE_WORDS) : undefined;
    member.handle = new Handle(
      (frame, _, text) => {
        this.#sending(member, frame as Frame);
        if (member.gone) return;
        const copy = text ? JSON.parse(JSON.stringify(frame)) : copied(frame);
        member.down.push(copy);
      },
      mine,
      false,
    );
    // What the handle needs of an open port.
    const port = {
      get open(): boolean {
        return member.open && member.alive;
      },
      post: (frame: unknown): void => {
        if (!port.open) return;
        const text = typeof frame === "string";
        const arriving = (text ? JSON.parse(frame) : copied(frame)) as Frame;
        if (text) this.#texts.add(arriving);
        member.up.push(arriving);
      },
      start() {},
      close() {
        member.open = false;
      },
    };
    member.client = remoteClient(port as unknown as OpenPort, {
      kind: "queue",
      maxsize: core.maxsize,
      joinable,
      words: this.#words ? core.words : null,
      mine: mine ?? null,
    });
    core.handles.add(member.handle);
    return member;
  }

  /** When no handle can get any more, what is left is dropped. */
  #endIfClosed(): void {
    for (const handle of this.core.handles) if (!handle.closed) return;
    this.core.end();
    this.ended = true;
  }

  #arriving(member: Member, [tag, id]: Frame): void {
    if (tag !== GET && tag !== PUT_WAIT) return;
    this.#arrivals.set(`${member.index} ${id}`, this.#arrivals.size);
  }

  #arrival(handle: Handle, id: unknown): number | undefined {
    const member = this.members.find((member) => member.handle === handle)!;
    return this.#arrivals.get(`${member.index} ${id}`);
  }

  /** The owner serves a call: those that came earlier have been served. */
  #sending(member: Member, [tag, id, , why, claimed]: Frame): void {
    const served = tag === ITEMS && claimed as number > 0
      ? entries(this.core.inspect().getters)
      : tag === ANSWER && why === undefined
      ? entries(this.core.inspect().putters)
      : [];
    const mine = this.#arrival(member.handle, id) ?? Infinity;
    if (mine === Infinity) return; // a parcel that had its place, or a question
    for (const { handle, id } of served) {
      assert(this.#arrival(handle, id)! > mine, "served in the order of calls");
    }
  }

  // --- Steps ---------------------------------------------------------------------

  /** Whether a frame is on its way to the owner, or the news that the thread has ended. */
  canRise({ up, gone, alive, open }: Member): boolean {
    return up.length > 0 || (!gone && (!alive || !open));
  }

  /** The next frame of a member reaches the owner. */
  rise(member: Member): void {
    const frame = member.up.shift();
    if (frame && frame[0] !== EOF) {
      this.#arriving(member, frame);
      this.core.receive(member.handle, frame, this.#texts.has(frame));
      if (member.handle.closed) this.#endIfClosed();
    } else {
      member.gone = true;
      member.up.length = 0;
      this.#sink(member);
      this.core.gone(member.handle);
      this.#endIfClosed();
    }
  }

  canFall({ down, alive, open }: Member): boolean {
    return down.length > 0 && alive && open;
  }

  /** The next frame of the owner reaches a member. */
  fall(member: Member): void {
    member.client.receive(member.down.shift()!);
  }

  /** Ends a member's thread, or the port at its side was closed. */
  end(member: Member): void {
    member.alive = false;
    this.#sink(member);
  }

  /** Frames that nobody will read: the runtime closes the ports in them. */
  #sink(member: Member): void {
    for (const [tag, , , , claimed, items] of member.down.splice(0)) {
      if (tag !== ITEMS) continue;
      for (const item of (items as unknown[]).slice(0, claimed as number)) {
        if (typeof item !== "object") continue;
        this.lost.add(numberOf(item));
        drop(item);
      }
    }
  }

  // --- Where everything is -----------------------------------------------------------

  /** Items that were put and wait, at the owner or on the way to it, admitted. */
  available(): Set<number> {
    const { store, back, base } = this.core.inspect();
    const claimed = (Atomics.load(this.core.words, HEAD) - base) | 0;
    const found = new Set<number>();
    for (let i = Math.max(0, claimed); i < store.size; i++) {
      found.add(numberOf(store.at(i)));
    }
    for (const { item } of back) found.add(numberOf(item));
    for (const { up } of this.members) {
      for (const [tag, item] of up) {
        if (tag === PUT || (tag === PUT_PARCEL && item)) {
          found.add(numberOf(item));
        }
        if (tag === PUT_SEVERAL) {
          for (const each of item as unknown[]) found.add(numberOf(each));
        }
      }
    }
    return found;
  }

  /** Items that were posted to a handle, as far as the owner knows. */
  #inFlight(): Map<number, string> {
    const found = new Map<number, string>();
    for (const { handle, index, up } of this.members) {
      const { words, blind } = handle;
      const told = up.filter(([tag]) => tag === RECEIVED)
        .map(([, seq]) => seq as number);
      const received = blind
        ? Math.max(-1, ...told)
        : Atomics.load(words, LAST_RECEIVED);
      for (const [id, items] of handle.offers) {
        for (const { item } of items) {
          found.set(numberOf(item), `${index} ?${id}`);
        }
      }
      for (const { seq, items } of handle.inFlight) {
        if (received - seq >= 0) continue;
        for (const { item } of items) {
          const number = numberOf(item);
          assert(!found.has(number), `item ${number} is in flight twice`);
          found.set(number, `${index} ${seq}`);
        }
      }
    }
    return found;
  }

  /** Asserts the invariants. `got`: the items that callers have. */
  check(got: ReadonlySet<number>): void {
    const { words, maxsize } = this.core;
    const state = this.core.inspect();
    const { back } = state;
    const getters = entries(state.getters);
    const putters = entries(state.putters);
    const load = (word: number) => Atomics.load(words, word);
    const size = load(TAIL) - load(GOT);
    assert(size >= 0, `size ${size} >= 0`);
    assert(maxsize === 0 || size <= maxsize, `size ${size} <= ${maxsize}`);
    assertEquals(load(BACK), back.length, "BACK");
    assert(load(JOINERS) === 1 || !state.joiners.first, "JOINERS");
    const waits = (words: Int32Array | undefined, slot: number, id: number) =>
      slot === 0 || Atomics.load(words!, slot) === id ? 1 : 0;
    let waiting = 0;
    for (const { handle, slot, id } of putters) {
      waiting += waits(handle.words, slot, id);
    }
    let freed = false;
    for (const { up, alive, gone, handle } of this.members) {
      if (!alive && !gone) freed = true;
      for (const [tag, id, slot] of up) {
        if (tag === PUT_WAIT && this.#words) {
          waiting += waits(handle.words, slot as number, id as number);
        }
        if (tag === FREED) freed = true;
      }
    }
    if (!this.torn) assertEquals(load(PUTS), waiting, "PUTS");
    const room = maxsize === 0 || size < maxsize;
    if (putters.length > 0) {
      assertEquals(load(STATE), OPEN, "no put waits after a shutdown");
      assert(!room || freed, "a put waits only while there is no room");
      assert(load(BELL) === 1 || freed, "the bell is set while a put waits");
    }
    if (getters.length > 0) {
      const arrived = state.base + state.store.size;
      const there = back.length + Math.max(0, arrived - load(HEAD));
      const { max, underway } = getters[0]!;
      const expects = max > 1 &&
        underway?.some(([handle, posted]) =>
          ((posted - handle.arrived) | 0) > 0
        );
      assert(
        there === 0 || (expects && there < max),
        "a get waits only while nothing is there",
      );
      if (load(STATE) !== OPEN) {
        assert(load(STATE) !== DROPPED, "no get waits in a dropped queue");
        assert(size > 0 || freed, "no get waits in a drained queue");
        assert(
          load(BELL) === 1 || freed,
          "the bell is set until it is drained",
        );
      }
    }
    const impatient = getters.filter((g) => !g.wait || g.underway);
    assert(
      impatient.length === state.impatient.size &&
        impatient.every((getter) => state.impatient.has(getter)),
      "gets that wait for what is on its way",
    );
    for (let i = 1; i < back.length; i++) {
      assert(back[i]!.index < back[i - 1]!.index, "what came back is in order");
    }
    for (const { handle, gone } of this.members) {
      if (!gone) continue;
      assertEquals(handle.inFlight.length, 0, "nothing is held for the dead");
      assert(!getters.some((getter) => getter.handle === handle), "nor a get");
      assert(
        !entries(state.joiners).some((j) => j.handle === handle),
        "nor join",
      );
    }
    this.#checkPlaces(got);
  }

  /** Whether an item was on its way to another handle before. */
  strayed(item: number, { index }: Member): boolean {
    const delivery = this.#deliveries.get(item);
    return this.returned.has(item) ||
      (delivery !== undefined && !delivery.startsWith(`${index} `));
  }

  #checkPlaces(got: ReadonlySet<number>): void {
    const available = this.available();
    const inFlight = this.#inFlight();
    for (const number of available) {
      assert(!got.has(number), `item ${number} was got and is there again`);
      assert(!inFlight.has(number), `item ${number} is in two places`);
      if (this.#deliveries.has(number)) this.returned.add(number);
    }
    for (const [number, delivery] of inFlight) {
      assert(!got.has(number), `item ${number} was got and is in flight`);
      const before = this.#deliveries.get(number);
      if (before && before !== delivery) this.returned.add(number);
      this.#deliveries.set(number, delivery);
    }
  }

  /** All of the state, as text: two worlds with the same text go on alike. */
  fingerprint(): string {
    const { words } = this.core;
    const { base, store, back, getters, putters, joiners, fresh } = this.core
      .inspect();
    const call = ({ handle, id, slot }: {
      handle: Handle;
      id: number;
      slot?: number;
    }) => [this.members.findIndex((m) => m.handle === handle), id, slot];
    return JSON.stringify([
      [...words],
      base,
      Array.from({ length: store.size }, (_, i) => store.at(i)),
      back,
      entries(getters).map((g) => [
        ...call(g),
        g.max,
        g.wait,
        [...g.underway ?? []].map(([h, n]) => [call({ handle: h, id: 0 }), n]),
      ]),
      entries(putters).map((p) => [...call(p), p.items]),
      entries(joiners).map(call),
      fresh,
      this.members.map(({ client, handle, up, down, alive, open, gone }) => [
        up,
        down,
        alive,
        open,
        gone,
        inspect(client),
        [...handle.words],
        handle.arrived,
        handle.seq,
        handle.inFlight,
        [...handle.offers],
        handle.offered,
        handle.ahead,
        handle.window,
        handle.hits,
        handle.misses,
        handle.closed,
      ]),
    ]);
  }
}

/** What decides the next steps of a handle. */
function inspect(client: Client): unknown[] {
  const [calls, copies, ...rest] = client.inspect();
  const [items, index, at, served] = copies?.inspect() ?? [[], 0, 0, 0];
  const left = items.slice(at);
  return [
    [...calls.values()].map(({ id, what, slot, givenUp, draft }) => [
      id,
      what,
      slot,
      givenUp,
      draft !== undefined,
    ]),
    left,
    left.length > 0 ? index : 0,
    at,
    served,
    ...rest,
    client.closed,
  ];
}

function entries<E extends Entry>(list: List<E>): E[] {
  const entries: E[] = [];
  list.forEach((entry) => entries.push(entry));
  return entries;
}

const immediate = runtime === "node"
  ? (globalThis as unknown as { setImmediate(run: () => void): void })
    .setImmediate
  : undefined;

/** Lets promises settle. */
export async function settle(): Promise<void> {
  // Under the test runner of Node each await costs as much as half a turn.
  if (immediate) await new Promise<void>((done) => immediate(done));
  else for (let i = 0; i < 16; i++) await null;
}

/** What a handle has posted comes in at the owner. */
export function up(world: World, ...members: Member[]): void {
  for (const member of members) {
    while (world.canRise(member)) world.rise(member);
  }
}

/** What the owner has posted comes in at a handle. */
export function down(world: World, ...members: Member[]): void {
  for (const member of members) {
    while (world.canFall(member)) world.fall(member);
  }
}

/** Everything comes in, and what that leads to. */
export async function deliver(world: World): Promise<void> {
  for (let i = 0; i < 4; i++) {
    for (const member of world.members) {
      up(world, member);
      down(world, member);
    }
    await settle();
  }
}

/** Runs something with some operations of `Atomics` changed. */
export function withAtomics(changed: object, run: () => void): void {
  const real = globalThis.Atomics;
  const Atomics = Object.assign(Object.create(real), changed);
  Object.assign(globalThis, { Atomics });
  try {
    run();
  } finally {
    Object.assign(globalThis, { Atomics: real });
  }
}

/** What `Atomics.compareExchange` is called with. */
export type Exchange = [
  words: Int32Array,
  at: number,
  from: number,
  to: number,
];

/** Does something before the next claim of an item, as another thread may at any moment. */
export function beforeClaim(by: () => void, run: () => void): void {
  const real = globalThis.Atomics;
  let armed = true;
  const compareExchange = (...args: Exchange) => {
    if (armed && args[1] === HEAD) {
      armed = false;
      by();
    }
    return real.compareExchange(...args);
  };
  withAtomics({ compareExchange }, run);
}
