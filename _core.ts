/**
 * The owner's side of a queue, as a state machine: frames of the handles in,
 * frames to the handles out. No ports, promises or timers.
 *
 * Invariants, after every event:
 * - a get waits only while nothing can be claimed: `#getters` is empty, or
 *   `#back` is and `HEAD` has reached all that has arrived;
 * - a put waits only while there is no room or an earlier one waits;
 * - `0 <= TAIL - GOT`, and `<= maxsize` when that is positive;
 * - every item is in exactly one place: in the store (unclaimed), in `#back`,
 *   in one handle's `inFlight`, or handed to a caller;
 * - `PUTS` is the number of waiting puts, counted from the moment they were
 *   called; `BACK` is the size of `#back`;
 * - while a put waits or a shutdown is not complete, `BELL` is set, or the
 *   frame it asked for is on its way.
 */

import { Deque } from "./_deque.ts";
import { type Entry, List } from "./_list.ts";
import { drop, Parcel, transferOf } from "./_handoff.ts";
import { weigh } from "./_snapshot.ts";
import {
  ANSWER,
  ASK,
  CANCEL,
  CLOSE,
  CLOSED,
  type Frame,
  FREED,
  GET,
  GIVE_BACK,
  isCount,
  ITEMS,
  MORE,
  PUT,
  PUT_PARCEL,
  PUT_SEVERAL,
  PUT_WAIT,
  RECEIVED,
  type Refusal,
  REFUSED,
  STORED,
  UNPUT,
} from "./_wire.ts";
import {
  ADMITTED,
  BACK,
  BELL,
  DONE,
  DROPPED,
  endSlot,
  finishTask,
  FIRST_SLOT,
  GOT,
  HEAD,
  JOINERS,
  LAST_RECEIVED,
  OPEN,
  PUTS,
  reserve,
  SHUT,
  sizeOf,
  STATE,
  TAIL,
} from "./_words.ts";

const FIRST_WINDOW = 16;
const MOST_WINDOW = 1024;
/** The most bytes of copies that are posted ahead in one frame. */
const WINDOW_WEIGHT = 64 * 1024;
/** An item whose size is not known counts as this much. */
const UNKNOWN_WEIGHT = 64;

/** Items that were posted to a handle and have not reached a caller yet. */
interface Delivery {
  seq: number;
  /** The number of the first item; they follow each other. */
  index: number;
  items: unknown[];
}

interface Getter extends Entry {
  handle: Handle;
  id: number;
  slot: number;
  max: number;
  /** For a get that does not wait: what must have arrived before it is refused. */
  until: number | undefined;
}

interface Putter extends Entry {
  handle: Handle;
  id: number;
  slot: number;
  items: unknown[];
  stored: number;
}

/** The place of an entry that is in no list. */
const NOWHERE = { list: undefined, previous: undefined, next: undefined };

/** What {@linkcode QueueCore.take} returns when nothing can be claimed. */
export const NOTHING: unique symbol = Symbol("nothing");

interface Returned {
  index: number;
  item: unknown;
}

/** What {@linkcode QueueCore.inspect} tells. */
export interface CoreState {
  base: number;
  store: unknown[];
  back: Returned[];
  getters: Getter[];
  putters: Putter[];
  joiners: { handle: Handle; id: number }[];
  nowaits: number;
}

/** What the owner knows of one handle. */
export class Handle {
  /** Posts a frame to the handle. */
  readonly send: (frame: unknown[], transfer?: Transferable[]) => void;
  /** Its shared words; `undefined` without shared memory. */
  readonly words: Int32Array | undefined;
  /** In the owner's thread: gets no copies ahead, and items as they are. */
  readonly local: boolean;
  closed = false;
  /** Without words: what it has been admitted to put, kept here. */
  admitted = 0;
  /** Put items that have come in. */
  arrived = 0;
  /** The last delivery. */
  seq = 0;
  inFlight: Delivery[] = [];
  /** Copies up to this item have been posted ahead, at the most `window` of unclaimed ones. */
  ahead = 0;
  window: number = FIRST_WINDOW;
  puts = 0;

  constructor(
    send: (frame: unknown[], transfer?: Transferable[]) => void,
    words: Int32Array | undefined,
    local: boolean,
  ) {
    this.send = send;
    this.words = words;
    this.local = local;
  }
}

/** See the module's comment. */
export class QueueCore {
  readonly words: Int32Array;
  readonly maxsize: number;
  readonly handles: Set<Handle> = new Set();
  #store = new Deque<unknown>();
  /** The number of the first item in the store. */
  #base = 0;
  #back: Returned[] = [];
  readonly #getters = new List<Getter>();
  /** How many of the getters do not wait. */
  #nowaits = 0;
  readonly #putters = new List<Putter>();
  #joiners: { handle: Handle; id: number }[] = [];

  constructor(words: Int32Array, maxsize: number) {
    this.words = words;
    this.maxsize = maxsize;
  }

  /** Handles a frame from a handle; ignores what is malformed. */
  receive(handle: Handle, frame: Frame): void {
    const [tag, a, b, c, d, e, f] = frame;
    switch (tag) {
      case PUT:
        return this.put(handle, a);
      case PUT_SEVERAL:
        if (Array.isArray(a)) { for (const item of a) this.put(handle, item); }
        return;
      case PUT_PARCEL:
        return this.put(handle, new Parcel(a, transferOf(a)));
      case PUT_WAIT:
        if (!isCount(a) || !isSlot(handle, b) || !Array.isArray(c)) return;
        return this.#offer(handle, a, b, c, d === true);
      case UNPUT:
        return this.#unput(handle);
      case GET:
        if (!isCount(a) || !isSlot(handle, b) || !isCount(c) || c < 1) return;
        this.#adapt(handle, e, f);
        return this.#ask(handle, a, b, c, d === true);
      case MORE:
        this.#adapt(handle, a, b);
        return this.#postAhead(handle);
      case CANCEL:
        return this.#cancel(handle, a);
      case RECEIVED:
        if (isInt32(a)) this.#received(handle, a);
        return;
      case GIVE_BACK:
        if (isInt32(a)) this.#giveBack(handle, a, b);
        return;
      case FREED:
        return this.changed();
      case ASK:
        if (isCount(a)) this.#question(handle, a, b, c);
        return;
      case CLOSE:
        return this.#close(handle);
    }
  }

  // --- Items in ------------------------------------------------------------------

  /** An item that was admitted through the words has arrived. */
  put(handle: Handle, item: unknown): void {
    handle.arrived = (handle.arrived + 1) | 0;
    this.#arrive(item);
    if (this.#nowaits > 0) this.#refuseNowaits();
  }

  #arrive(item: unknown): void {
    this.#store.push(item);
    if (Atomics.load(this.words, STATE) === DROPPED) this.#dropAll();
    else if (this.#getters.first) this.#serve();
  }

  #offer(
    handle: Handle,
    id: number,
    slot: number,
    items: unknown[],
    wait: boolean,
  ): void {
    // A handle with words has counted its waiting put itself.
    if (handle.words === undefined) Atomics.add(this.words, PUTS, 1);
    const putter = { handle, id, slot, items, stored: 0, ...NOWHERE };
    handle.puts++;
    this.#putters.push(putter);
    this.#admit();
    if (putter.list === undefined) return;
    if (Atomics.load(this.words, STATE) !== OPEN) {
      this.#endPut(putter, this.#isLive(putter) ? "shutdown" : "cancelled");
    } else if (!wait) this.#endPut(putter, "full");
  }

  /** Whether a call has not been given up; from then on it cannot be. */
  #isLive({ handle, slot, id }: Getter | Putter): boolean {
    return slot === 0 || endSlot(handle.words!, slot, id);
  }

  /** Stores what waits, in order, as long as there is room. */
  #admit(): void {
    const { words, maxsize } = this;
    let putter: Putter | undefined;
    while ((putter = this.#putters.first)) {
      if (Atomics.load(words, STATE) !== OPEN) return;
      if (reserve(words, maxsize, 1) === 0) {
        // Ask to be told, then look again: it may have changed meanwhile.
        if (Atomics.exchange(words, BELL, 1) === 1) return;
        continue;
      }
      const { handle, items } = putter;
      if (!this.#isLive(putter)) {
        Atomics.sub(words, TAIL, 1);
        this.#endPut(putter, "cancelled");
      } else if (items.length === 0) {
        this.#countAdmitted(handle, 1);
        this.#endPut(putter);
      } else {
        this.#arrive(items[putter.stored++]);
        if (putter.stored === items.length) this.#endPut(putter);
      }
    }
  }

  #countAdmitted(handle: Handle, count: number): void {
    if (handle.words) Atomics.add(handle.words, ADMITTED, count);
    else handle.admitted = (handle.admitted + count) | 0;
  }

  /** A handle gives up a place that it was admitted to. */
  #unput(handle: Handle): void {
    this.#countAdmitted(handle, -1);
    Atomics.sub(this.words, TAIL, 1);
    this.changed();
    this.#refuseNowaits();
  }

  #endPut(putter: Putter, why?: Refusal): void {
    const { handle, id, stored } = putter;
    this.#putters.remove(putter);
    Atomics.sub(this.words, PUTS, 1);
    handle.puts--;
    if (why === undefined) handle.send([STORED, id, stored]);
    else handle.send([REFUSED, id, why, stored]);
    if (handle.closed && handle.puts === 0) handle.send([CLOSED]);
  }

  // --- Items out -------------------------------------------------------------------

  #arrivedCount(): number {
    return (this.#base + this.#store.size) | 0;
  }

  /** Forgets what handles have claimed from their copies. */
  #forgetClaimed(): void {
    let claimed = (Atomics.load(this.words, HEAD) - this.#base) | 0;
    for (; claimed > 0; claimed--) {
      this.#store.shift();
      this.#base = (this.#base + 1) | 0;
    }
  }

  #available(): boolean {
    if (this.#back.length > 0) return true;
    this.#forgetClaimed();
    return this.#store.size > 0;
  }

  /** Claims up to `max` items that follow each other. */
  #claim(max: number): Delivery | undefined {
    if (this.#back.length > 0) return this.#claimBack(max);
    while (this.#available()) {
      const count = Math.min(max, this.#store.size);
      const index = this.#base;
      const end = (index + count) | 0;
      if (Atomics.compareExchange(this.words, HEAD, index, end) !== index) {
        continue;
      }
      const items: unknown[] = [];
      for (let i = 0; i < count; i++) items.push(this.#store.shift());
      this.#base = end;
      return { seq: 0, index, items };
    }
    return undefined;
  }

  #claimBack(max: number): Delivery {
    const { index } = this.#back[0]!;
    const items: unknown[] = [];
    const follows = () =>
      this.#back[0]?.index === ((index + items.length) | 0) &&
      items.length < max;
    while (follows()) items.push(this.#back.shift()!.item);
    Atomics.store(this.words, BACK, this.#back.length);
    return { seq: 0, index, items };
  }

  /** Claims the next item for the owner's own handle; `NOTHING` if none is there. */
  take(): unknown {
    if (this.#getters.first) return NOTHING;
    const delivery = this.#claim(1);
    if (delivery === undefined) return NOTHING;
    Atomics.add(this.words, GOT, 1);
    return delivery.items[0];
  }

  #ask(
    handle: Handle,
    id: number,
    slot: number,
    max: number,
    wait: boolean,
  ): void {
    if (handle.closed) return handle.send([REFUSED, id, "cancelled", 0]);
    const until = wait ? undefined : Atomics.load(this.words, TAIL);
    if (!wait) this.#nowaits++;
    this.#getters.push({ handle, id, slot, max, until, ...NOWHERE });
    this.#serve();
    if (this.#nowaits > 0) this.#refuseNowaits();
    if (Atomics.load(this.words, STATE) !== OPEN) this.#finishShutdown();
  }

  #endGet(getter: Getter): void {
    this.#getters.remove(getter);
    if (getter.until !== undefined) this.#nowaits--;
  }

  /** Hands out what there is to the gets that wait, in order. */
  #serve(): void {
    let getter: Getter | undefined;
    while ((getter = this.#getters.first)) {
      const delivery = this.#claim(getter.max);
      if (delivery === undefined) return;
      this.#endGet(getter);
      if (this.#isLive(getter)) {
        this.#deliver(getter.handle, getter.id, delivery);
      } else this.#keepBack(delivery.index, delivery.items);
    }
  }

  #deliver(handle: Handle, id: number, delivery: Delivery): void {
    const { index, items } = delivery;
    const claimed = items.length;
    const seq = delivery.seq = handle.seq = (handle.seq + 1) | 0;
    this.#trim(handle);
    handle.inFlight.push(delivery);
    const parcels: number[] = [];
    const transfer: Transferable[] = [];
    const posted = items.map((item, i) => {
      if (!(item instanceof Parcel)) return item;
      parcels.push(i);
      transfer.push(...item.transfer);
      return item.message;
    });
    // Copies of what follows, if it follows.
    if (((index + claimed) | 0) === this.#base) {
      this.#addCopies(handle, posted);
    }
    const first = (handle.ahead - (posted.length - claimed)) | 0;
    const frame: unknown[] = [ITEMS, id, seq, first, claimed, posted];
    if (parcels.length > 0) frame.push(parcels);
    handle.send(frame, transfer);
  }

  /** Adds copies of the next unclaimed items that the handle has not seen. */
  #addCopies(handle: Handle, posted: unknown[]): void {
    // Without shared words a handle cannot claim; the owner need not copy.
    if (handle.local || !handle.words || this.#back.length > 0) return;
    // What was posted ahead before is there already, or on its way.
    let at = Math.max(0, (handle.ahead - this.#base) | 0);
    let weight = 0;
    const end = Math.min(this.#store.size, handle.window);
    for (; at < end; at++) {
      const item = this.#store.at(at);
      if (item instanceof Parcel) break;
      weight += weightOf(item);
      if (weight > WINDOW_WEIGHT) break;
      posted.push(item);
    }
    handle.ahead = (this.#base + at) | 0;
  }

  #postAhead(handle: Handle): void {
    if (handle.closed) return;
    this.#forgetClaimed();
    const posted: unknown[] = [];
    this.#addCopies(handle, posted);
    if (posted.length === 0) return;
    const index = (handle.ahead - posted.length) | 0;
    handle.send([ITEMS, 0, 0, index, 0, posted]);
  }

  /** The window doubles for a handle that claims its copies, and shrinks otherwise. */
  #adapt(handle: Handle, hits: unknown, misses: unknown): void {
    if (!isCount(hits) || !isCount(misses)) return;
    if (hits > misses) handle.window = Math.min(MOST_WINDOW, handle.window * 2);
    else if (hits * 4 < misses) handle.window = Math.max(1, handle.window >> 1);
  }

  // --- What comes back -----------------------------------------------------------

  /** Forgets deliveries that have reached their callers. */
  #trim({ words, inFlight }: Handle): void {
    if (!words) return;
    const received = Atomics.load(words, LAST_RECEIVED);
    while (inFlight.length > 0 && ((inFlight[0]!.seq - received) | 0) <= 0) {
      inFlight.shift();
    }
  }

  /** Without shared memory: deliveries up to `seq` have reached their callers. */
  #received({ words, inFlight }: Handle, seq: number): void {
    if (words) return;
    while (inFlight.length > 0 && ((inFlight[0]!.seq - seq) | 0) <= 0) {
      Atomics.add(this.words, GOT, inFlight.shift()!.items.length);
    }
    this.changed();
  }

  /** A delivery came too late; endpoints that travelled come back with it. */
  #giveBack(handle: Handle, seq: number, parcels: unknown): void {
    const at = handle.inFlight.findIndex((delivery) => delivery.seq === seq);
    if (at < 0) return;
    const { index, items } = handle.inFlight[at]!;
    handle.inFlight.splice(at, 1);
    const returned = Array.isArray(parcels) ? [...parcels] : [];
    this.#restore(
      index,
      items.map((item) => {
        if (!(item instanceof Parcel)) return item;
        const message = returned.shift();
        return new Parcel(message, transferOf(message));
      }),
    );
  }

  /** Claimed items go to the front again, and to those who wait. */
  #restore(index: number, items: unknown[]): void {
    this.#keepBack(index, items);
    this.#serve();
    this.#refuseNowaits();
  }

  #keepBack(index: number, items: unknown[]): void {
    if (Atomics.load(this.words, STATE) === DROPPED) {
      for (const item of items) dropItem(item);
      return this.#countDropped(items.length);
    }
    const back = this.#back;
    let at = 0;
    while (at < back.length && ((back[at]!.index - index) | 0) < 0) at++;
    const returned = items.map((item, i) => ({ index: (index + i) | 0, item }));
    back.splice(at, 0, ...returned);
    Atomics.store(this.words, BACK, back.length);
  }

  /** What a handle had not received goes back. */
  #recall(handle: Handle, alive: boolean): void {
    this.#trim(handle);
    const deliveries = handle.inFlight;
    handle.inFlight = [];
    for (const delivery of deliveries) {
      const whole = delivery.items.filter((item) => !(item instanceof Parcel));
      const lost = delivery.items.length - whole.length;
      // Endpoints that are on their way come back, or were closed on it.
      if (lost > 0 && alive) handle.inFlight.push(delivery);
      else {
        this.#countDropped(lost);
        this.#restore(delivery.index, whole);
      }
    }
  }

  // --- Ends of calls ---------------------------------------------------------------

  #cancel(handle: Handle, id: unknown): void {
    const mine = (call: { handle: Handle; id: number }) =>
      call.handle === handle && call.id === id;
    this.#getters.forEach((getter) => {
      if (!mine(getter)) return;
      this.#endGet(getter);
      handle.send([REFUSED, getter.id, "cancelled", 0]);
    });
    this.#putters.forEach((putter) => {
      if (mine(putter)) this.#endPut(putter, "cancelled");
    });
    this.#joiners = this.#joiners.filter((joiner) => !mine(joiner));
    Atomics.store(this.words, JOINERS, this.#joiners.length);
    this.#admit();
  }

  /** Gets that do not wait are refused once all that was put before them is here. */
  #refuseNowaits(): void {
    if (this.#nowaits === 0) return;
    const arrived = this.#arrivedCount();
    const complete = arrived === Atomics.load(this.words, TAIL);
    this.#getters.forEach((getter) => {
      const { until, handle, id } = getter;
      if (until === undefined) return;
      if (!complete && ((arrived - until) | 0) < 0) return;
      this.#endGet(getter);
      handle.send([REFUSED, id, this.#drained() ? "shutdown" : "empty", 0]);
    });
  }

  /** The words changed: what waits for that is looked at again. */
  changed(): void {
    this.#forgetClaimed();
    this.#admit();
    if (Atomics.load(this.words, STATE) !== OPEN) this.#finishShutdown();
    this.#checkJoiners();
  }

  #forgetGetters(handle: Handle): void {
    this.#getters.forEach((getter) => {
      if (getter.handle === handle) this.#endGet(getter);
    });
  }

  /** A handle puts and gets no more; what it has put stays. */
  #close(handle: Handle): void {
    if (handle.closed) return;
    handle.closed = true;
    this.#forgetGetters(handle);
    this.#recall(handle, true);
    if (handle.puts === 0) handle.send([CLOSED]);
  }

  /** A handle's thread or port is gone. Its puts stay, also those that wait. */
  gone(handle: Handle): void {
    if (!this.handles.delete(handle)) return;
    handle.closed = true;
    this.#forgetGetters(handle);
    this.#joiners = this.#joiners.filter((joiner) => joiner.handle !== handle);
    Atomics.store(this.words, JOINERS, this.#joiners.length);
    // Admitted, but never posted.
    const admitted = handle.words
      ? Atomics.load(handle.words, ADMITTED)
      : handle.admitted;
    const missing = (admitted - handle.arrived) | 0;
    if (missing > 0) Atomics.sub(this.words, TAIL, missing);
    this.#recall(handle, false);
    this.changed();
    this.#refuseNowaits();
  }

  /** For tests: what it holds now, to check the invariants with. */
  inspect(): CoreState {
    const state: CoreState = {
      base: this.#base,
      store: [],
      back: [...this.#back],
      getters: [],
      putters: [],
      joiners: [...this.#joiners],
      nowaits: this.#nowaits,
    };
    for (let i = 0; i < this.#store.size; i++) {
      state.store.push(this.#store.at(i));
    }
    this.#getters.forEach((getter) => state.getters.push(getter));
    this.#putters.forEach((putter) => state.putters.push(putter));
    return state;
  }

  /** Nobody will get what is left: closes the endpoints in it. */
  end(): void {
    for (const { item } of this.#back) dropItem(item);
    for (; this.#store.size > 0; this.#base = (this.#base + 1) | 0) {
      dropItem(this.#store.shift());
    }
    this.#back = [];
  }

  // --- Questions, shutdown, tasks ---------------------------------------------------

  #question(
    handle: Handle,
    id: number,
    question: unknown,
    argument: unknown,
  ): void {
    switch (question) {
      case "size":
        return handle.send([ANSWER, id, sizeOf(this.words)]);
      case "done":
        handle.send([ANSWER, id, finishTask(this.words)]);
        return this.#checkJoiners();
      case "join":
        this.#joiners.push({ handle, id });
        Atomics.store(this.words, JOINERS, this.#joiners.length);
        return this.#checkJoiners();
      case "shutdown":
        this.#shutdown(argument === true);
        return handle.send([ANSWER, id, true]);
    }
  }

  #checkJoiners(): void {
    if (this.#joiners.length === 0) return;
    if (Atomics.load(this.words, TAIL) !== Atomics.load(this.words, DONE)) {
      return;
    }
    const joiners = this.#joiners;
    this.#joiners = [];
    Atomics.store(this.words, JOINERS, 0);
    for (const { handle, id } of joiners) handle.send([ANSWER, id, true]);
  }

  #shutdown(immediate: boolean): void {
    const state = Atomics.load(this.words, STATE);
    if (state === OPEN || immediate) {
      Atomics.store(this.words, STATE, immediate ? DROPPED : SHUT);
    }
    this.#putters.forEach((putter) => {
      this.#endPut(putter, this.#isLive(putter) ? "shutdown" : "cancelled");
    });
    if (immediate) this.#dropAll();
    this.#finishShutdown();
  }

  /** Whether gets are to reject with `ShutDown`. */
  #drained(): boolean {
    const state = Atomics.load(this.words, STATE);
    return state === DROPPED || (state === SHUT && sizeOf(this.words) === 0);
  }

  #finishShutdown(): void {
    if (!this.#getters.first) return;
    while (!this.#drained()) {
      if (Atomics.exchange(this.words, BELL, 1) === 1) return;
    }
    this.#getters.forEach((getter) => {
      this.#endGet(getter);
      if (!this.#isLive(getter)) return;
      getter.handle.send([REFUSED, getter.id, "shutdown", 0]);
    });
  }

  #dropAll(): void {
    let delivery: Delivery | undefined;
    while ((delivery = this.#claim(Infinity))) {
      for (const item of delivery.items) dropItem(item);
      this.#countDropped(delivery.items.length);
    }
  }

  /** Items that nobody gets any more; nobody will call `task_done` for them. */
  #countDropped(count: number): void {
    if (count === 0) return;
    Atomics.add(this.words, GOT, count);
    for (let i = 0; i < count; i++) finishTask(this.words);
    this.#checkJoiners();
  }
}

function isInt32(value: unknown): value is number {
  return typeof value === "number" && (value | 0) === value;
}

function isSlot({ words }: Handle, value: unknown): value is number {
  return value === 0 ||
    (words !== undefined && isCount(value) && value >= FIRST_SLOT &&
      value < words.length);
}

function dropItem(item: unknown): void {
  if (item instanceof Parcel) drop(item.message);
}

function weightOf(item: unknown): number {
  if (typeof item === "string") return item.length;
  if (typeof item !== "object" || item === null) return 8;
  return UNKNOWN_WEIGHT + weigh(item);
}
