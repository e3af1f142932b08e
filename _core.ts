/**
 * The owner's side of a queue, as a state machine: frames of the handles in,
 * frames to the handles out. No ports, promises or timers.
 *
 * Invariants, after every event:
 * - a get waits only while nothing can be claimed: `#getters` is empty, or
 *   `#back` is and `HEAD` has reached all that has arrived; a get of several
 *   also while there are fewer and more is on its way;
 * - a put waits only while there is no room or an earlier one waits;
 * - `0 <= TAIL - GOT`, and `<= maxsize` when that is positive;
 * - every item is in exactly one place: in the store (unclaimed), in `#back`,
 *   in one handle's `inFlight` or `offers`, or handed to a caller;
 * - `PUTS` is the number of waiting puts, counted from the moment they were
 *   called, whether they have come in or not, to the moment they end, here or
 *   at their handles; `BACK` is the size of `#back`;
 * - while a put waits or a shutdown is not complete, `BELL` is set, or the
 *   frame it asked for is on its way.
 */

import { Deque } from "./_deque.ts";
import {
  type Call,
  FIRST_WINDOW,
  type Handle,
  type Numbered,
} from "./_handle.ts";
import { drop, isParcel, Parcel } from "./_handoff.ts";
import { List } from "./_list.ts";
import type { Transferable } from "./_runtime.ts";
import { Odd, plain, weigh } from "./_snapshot.ts";
import {
  ACCEPT,
  ANSWER,
  ASK,
  CANCEL,
  CLOSE,
  CLOSED,
  ENDED,
  type Frame,
  FREED,
  GET,
  GIVE_BACK,
  isCount,
  ITEMS,
  MORE,
  OFFER,
  PUT,
  PUT_PARCEL,
  PUT_SEVERAL,
  PUT_WAIT,
  RECEIVED,
  type Refusal,
} from "./_wire.ts";
import {
  ADMITTED,
  allDone,
  BACK,
  BELL,
  BUSY,
  DROPPED,
  endSlot,
  finishTask,
  GOT,
  HEAD,
  JOINERS,
  OFFERED,
  OPEN,
  POSTED,
  PUTS,
  reserve,
  SEEN,
  SHARED,
  SHUT,
  sizeOf,
  STATE,
  TAIL,
  WANTED,
} from "./_words.ts";

/** After so many new items, copies are posted to those who keep up. */
const PUSH_STEP = 32;
/** The most bytes of copies that are posted ahead in one frame. */
const WINDOW_WEIGHT = 64 * 1024;
/** An item whose size is not known counts as this much. */
const UNKNOWN_WEIGHT = 64;

/** What {@linkcode QueueCore.take} returns when nothing can be claimed. */
export const NOTHING: unique symbol = Symbol("nothing");

/** Instead of what is on its way: that is known once the handles are that were shared. */
const UNKNOWN: [Handle, number][] = [];

/** What {@linkcode QueueCore.inspect} tells. */
export interface CoreState {
  base: number;
  store: Deque<unknown>;
  back: Numbered[];
  getters: List<Call>;
  putters: List<Call>;
  joiners: List<Call>;
  impatient: Set<Call>;
  fresh: number;
}

/** See the module's comment. */
export class QueueCore {
  readonly words: Int32Array;
  readonly maxsize: number;
  readonly joinable: boolean;
  readonly handles: Set<Handle> = new Set();
  #store = new Deque<unknown>();
  /** The number of the first item in the store. */
  #base = 0;
  /** Claimed items that came back, the next one last. */
  #back: Numbered[] = [];
  readonly #getters = new List<Call>();
  /** Those of the getters that wait for what is on its way, if only to be refused. */
  readonly #impatient = new Set<Call>();
  readonly #putters = new List<Call>();
  readonly #joiners = new List<Call>();
  /** The first get may or may not take an item: its handle is about to say. */
  #undecided = false;
  #ended = false;
  #released = false;
  /** A thread has ended between two operations on words that belong together. */
  #uncounted = false;
  /** Items that have come since copies were last posted unasked. */
  #fresh = 0;
  readonly #pushStep: number;

  /** @param pushStep After how many new items copies are posted unasked. */
  constructor(
    words: Int32Array,
    maxsize: number,
    joinable = false,
    pushStep: number = PUSH_STEP,
  ) {
    this.words = words;
    this.maxsize = maxsize;
    this.joinable = joinable;
    this.#pushStep = pushStep;
  }

  /** Handles a frame from a handle, which came as text or not; ignores what is malformed. */
  receive(handle: Handle, frame: Frame, text = false): void {
    const [tag, a, b, c, d] = frame;
    // Not inside a call of the owner's own handle: others would be served in the midst of it.
    if (this.#uncounted && !handle.local) this.changed();
    switch (tag) {
      case PUT:
        this.#put(handle, [text ? a : new Odd(a)], c);
        break;
      case PUT_SEVERAL:
        if (!Array.isArray(a)) return;
        this.#put(handle, text ? a : a.map(odd));
        break;
      case PUT_PARCEL:
        if (isParcel(a)) this.#put(handle, [new Parcel(a)], b);
        else this.#unput(handle);
        break;
      case PUT_WAIT:
        if (!handle.isNew(a) || !handle.isSlot(b) || !Array.isArray(c)) {
          return;
        }
        return this.#offer(handle, a, b, text ? c : c.map(odd), d === true);
      case GET:
        if (!handle.isNew(a) || !handle.isSlot(b)) return;
        if (!isCount(c) || c < 1 || handle.closed) return;
        return this.#ask(handle, a, b, c, d === true);
      case MORE:
        return this.#postAhead(handle);
      case CANCEL:
        return this.#cancel(handle, a, b === true);
      case RECEIVED:
        if (isInt32(a)) this.#received(handle, a);
        return;
      case GIVE_BACK:
        if (!Array.isArray(b) || !b.every(isParcel)) return;
        return this.#takeBack(handle, "seq", a, b);
      case ACCEPT:
        if (isCount(a)) this.#accepted(handle, a, b === true);
        return;
      case FREED:
        this.changed();
        break;
      case ASK:
        if (isCount(a)) this.#question(handle, a, b, c);
        return;
      case CLOSE:
        this.#close(handle);
        break;
      default:
        return;
    }
    // It may have been all that was missing.
    if (handle.closed) this.#confirmClose(handle);
  }

  // --- Items in ------------------------------------------------------------------

  /** Items that were admitted have arrived; `id`: of the call that waits for that. */
  #put(handle: Handle, items: unknown[], id?: unknown): void {
    if (items.length > handle.missing) return;
    handle.arrived = (handle.arrived + items.length) | 0;
    for (const item of items) this.#store.push(item);
    this.#arrived(items.length);
    if (isCount(id)) handle.send([ANSWER, id]);
  }

  /** The store has grown. */
  #arrived(count: number): void {
    if (Atomics.load(this.words, STATE) === DROPPED) {
      this.#drop(this.#claim(Infinity));
    } else if (this.#ended) this.end();
    else if (this.#getters.first) this.#serve();
    else if ((this.#fresh += count) >= this.#pushStep) this.#push();
    this.#refuse();
  }

  /** Posts copies to those who take: a producer may leave no turn in which to hear them ask. */
  #push(): void {
    this.#fresh = 0;
    this.#forgetClaimed();
    for (const handle of this.handles) {
      const { words, blind, seq, local, ahead, window } = handle;
      // Not to one that has never been served.
      if (seq === 0 || local || blind || window < FIRST_WINDOW) continue;
      const left = handle.copied(this.#base);
      // Whoever has enough, or has not seen the last ones yet, will ask. And
      // few items are not worth a post to one who takes many.
      if (left * 2 > window || (this.#store.size - left) * 4 < window) continue;
      if (Atomics.load(words, SEEN) === ahead) this.#postAhead(handle);
    }
  }

  #offer(
    handle: Handle,
    id: number,
    slot: number,
    items: unknown[],
    wait: boolean,
  ): void {
    const { words } = handle;
    if (handle.blind) Atomics.add(this.words, PUTS, 1);
    else { // it has counted its waiting put itself
      if (((Atomics.load(words, OFFERED) - handle.offered) | 0) <= 0) return;
      handle.offered = (handle.offered + 1) | 0;
    }
    items.reverse();
    const putter = this.#wait(this.#putters, handle, id, slot, 0, wait, items);
    // It may have been all that counting anew has waited for.
    if (this.#uncounted) this.changed();
    else this.#admit();
    if (putter.list === undefined) return;
    if (this.#ended) this.#endPut(putter, "cancelled");
    else if (Atomics.load(this.words, STATE) !== OPEN) {
      this.#endPut(putter, "shutdown");
    } else if (!wait) this.#endPut(putter, "full");
  }

  /** A call joins those that wait. */
  #wait(
    list: List<Call>,
    handle: Handle,
    id: number,
    slot = 0,
    max = 0,
    wait = true,
    items: unknown[] = [],
  ): Call {
    const call: Call = {
      handle,
      id,
      slot,
      wait,
      max,
      underway: undefined,
      items,
      list: undefined,
      previous: undefined,
      next: undefined,
    };
    handle.calls.set(id, call);
    list.push(call);
    return call;
  }

  /** Ends a call; `why`: without what it asked for. */
  #answer(call: Call, why?: Refusal): void {
    this.#end(call);
    call.handle.send([ANSWER, call.id, undefined, why]);
  }

  /** A call waits no more. */
  #end(call: Call): void {
    call.list?.remove(call);
    this.#impatient.delete(call);
    call.handle.calls.delete(call.id);
  }

  /** Whether a call has not been given up yet. */
  #waits({ handle, slot, id }: Call): boolean {
    return slot === 0 || Atomics.load(handle.words, slot) === id;
  }

  /** Whether a call has not been given up; from then on it cannot be. */
  #isLive({ handle, slot, id }: Call): boolean {
    return slot === 0 || endSlot(handle.words, slot, id);
  }

  /** Stores what waits, in order, as long as there is room. */
  #admit(): void {
    if (this.#uncounted) this.#recount();
    const { words, maxsize } = this;
    let putter: Call | undefined;
    while ((putter = this.#putters.first)) {
      if (Atomics.load(words, STATE) !== OPEN) return;
      // Not for one that was given up long ago: `qsize()` would count its place.
      if (!this.#waits(putter)) {
        this.#endPut(putter, "cancelled");
        continue;
      }
      if (!reserve(words, maxsize)) {
        // Ask to be told, then look again: it may have changed meanwhile.
        if (Atomics.exchange(words, BELL, 1) === 1) return;
        continue;
      }
      const { handle, items } = putter;
      if (!this.#isLive(putter)) {
        Atomics.sub(words, TAIL, 1);
        this.#endPut(putter, "cancelled");
      } else if (items.length === 0) {
        Atomics.add(handle.words, ADMITTED, 1);
        this.#endPut(putter);
      } else {
        this.#store.push(items.pop());
        // Before a get is served: that may lead back here.
        if (items.length === 0) this.#endPut(putter);
        this.#arrived(1);
      }
    }
  }

  /** A handle gives up a place that it was admitted to. */
  #unput(handle: Handle): void {
    if (handle.missing <= 0) return;
    handle.arrived = (handle.arrived + 1) | 0;
    Atomics.sub(this.words, TAIL, 1);
    this.changed();
  }

  /** Ends a put that waits; `why`: without a place. */
  #endPut(putter: Call, why?: Refusal): void {
    const { handle } = putter;
    // Who gives one up has taken it out of `PUTS`.
    if (!why || this.#isLive(putter)) Atomics.sub(this.words, PUTS, 1);
    this.#answer(putter, why);
    if (handle.closed) this.#confirmClose(handle);
  }

  /** Answers CLOSE, when all that was admitted is here; the handle knows which of its puts still wait. */
  #confirmClose(handle: Handle): void {
    if (handle.missing <= 0) handle.send([CLOSED]);
  }

  // --- Items out -------------------------------------------------------------------

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

  /** Claims up to `max` items: those that came back, then those in the store. */
  #claim(max: number): Numbered[] {
    let claimed: Numbered[] = [];
    if (this.#back.length > 0) {
      claimed = this.#back.splice(-max).reverse();
      Atomics.store(this.words, BACK, this.#back.length);
    }
    while (claimed.length < max && this.#available()) {
      const count = Math.min(max - claimed.length, this.#store.size);
      const index = this.#base;
      const end = (index + count) | 0;
      if (Atomics.compareExchange(this.words, HEAD, index, end) !== index) {
        continue;
      }
      for (; this.#base !== end; this.#base = (this.#base + 1) | 0) {
        claimed.push({ index: this.#base, item: this.#store.shift() });
      }
    }
    return claimed;
  }

  /** Claims the next item for the owner's own handle; `NOTHING` if none is there. */
  take(): unknown {
    if (this.#getters.first) return NOTHING;
    const [claimed] = this.#claim(1);
    if (claimed === undefined) return NOTHING;
    Atomics.add(this.words, GOT, 1);
    return plain(claimed.item);
  }

  #ask(
    handle: Handle,
    id: number,
    slot: number,
    max: number,
    wait: boolean,
  ): void {
    // Served meanwhile by a copy that was posted ahead.
    if (slot > 0 && Math.abs(Atomics.load(handle.words, slot)) !== id) return;
    const getter = this.#wait(this.#getters, handle, id, slot, max, wait);
    if (!wait || max > 1) getter.underway = this.#underway();
    if (!wait || getter.underway) this.#impatient.add(getter);
    this.changed();
  }

  /** What has been posted and has not arrived, if anything has. */
  #underway(): [Handle, number][] | undefined {
    if (
      ((this.#base + this.#store.size) | 0) === Atomics.load(this.words, TAIL)
    ) {
      return undefined;
    }
    if (this.#isShared()) return UNKNOWN;
    const underway: [Handle, number][] = [];
    for (const handle of this.handles) {
      if (handle.blind || handle.local) continue;
      const posted = Atomics.load(handle.words, POSTED);
      if (((posted - handle.arrived) | 0) > 0) underway.push([handle, posted]);
    }
    return underway;
  }

  /** Whether a handle has been shared that is not known here yet: what was put there is on its way, too. */
  #isShared(): boolean {
    for (const { words, shared } of this.handles) {
      if (Atomics.load(words, SHARED) !== shared) return true;
    }
    return false;
  }

  /** Whether some of what was on its way to a get still has not arrived. */
  #isUnderway(getter: Call): boolean {
    if (getter.underway === UNKNOWN) getter.underway = this.#underway();
    const { underway } = getter;
    if (underway === UNKNOWN) return true;
    if (underway === undefined) return false;
    return underway.some(([handle, posted]) =>
      ((posted - handle.arrived) | 0) > 0 && this.handles.has(handle) &&
      // What could not be posted after all has been taken back.
      ((Atomics.load(handle.words, POSTED) - handle.arrived) | 0) > 0
    );
  }

  /** Hands out what there is to the gets that wait, in order. */
  #serve(): void {
    this.#undecided = false;
    let getter: Call | undefined;
    while ((getter = this.#getters.first)) {
      if (getter.underway && this.#waitsForMore(getter)) return;
      if (!this.#available()) return;
      const { handle, id, slot, max } = getter;
      // First the call, then the item: it might be served by a copy in between.
      const words = slot > 0 ? handle.words : undefined;
      const live = words === undefined || endSlot(words, slot, id, -id);
      if (!live) {
        const state = Atomics.compareExchange(words, slot, -id, WANTED);
        // Its handle looks for a copy, and then says what came of it.
        this.#undecided = state === -id || state === WANTED;
        if (this.#undecided) return;
        if (state === id) continue; // there was none
      }
      const claimed = live ? this.#claim(max) : [];
      const found = claimed.length > 0;
      if (words && live) endSlot(words, slot, -id, found ? 0 : id);
      if (live && !found) return;
      this.#end(getter);
      if (found) this.#deliver(handle, id, claimed);
    }
  }

  /** A get of several takes all that has been put, also what is on its way. */
  #waitsForMore(getter: Call): boolean {
    if (!this.#isUnderway(getter)) return false;
    this.#forgetClaimed();
    return this.#back.length + this.#store.size < getter.max;
  }

  #deliver(handle: Handle, id: number, claimed: Numbered[]): void {
    if (!claimed.some(holdsEndpoints)) {
      return this.#post(handle, id, claimed);
    }
    // Endpoints cannot be posted twice: ask first whether they are wanted.
    handle.offers.set(id, claimed);
    handle.send([OFFER, id]);
  }

  #accepted(handle: Handle, id: number, wanted: boolean): void {
    const claimed = handle.offers.get(id);
    if (claimed === undefined) return;
    handle.offers.delete(id);
    if (wanted) this.#post(handle, id, claimed);
    else this.#restore(claimed);
  }

  /** Posts what was claimed for a get, and copies of the next unclaimed items; nothing claimed: copies only. */
  #post(handle: Handle, id: number, claimed: Numbered[]): void {
    const count = claimed.length;
    const parcels: number[] = [];
    const transfer: Transferable[] = [];
    const posted = claimed.map(({ item }, i) => {
      if (!(item instanceof Parcel)) return item;
      parcels.push(i);
      transfer.push(...item.transfer);
      return item.message;
    });
    // Copies of what follows, if it follows.
    if (count === 0 || ((claimed[count - 1]!.index + 1) | 0) === this.#base) {
      this.#addCopies(handle, posted);
    }
    if (posted.length === 0) return;
    const first = (handle.ahead - (posted.length - count)) | 0;
    const [contents, text] = contentsOf(posted);
    if (count > 0) {
      handle.seq = (handle.seq + 1) | 0;
      handle.trim();
      handle.inFlight.push({ seq: handle.seq, id, items: claimed });
    }
    const frame: unknown[] = [ITEMS, id, handle.seq, first, count, contents];
    if (parcels.length > 0) frame.push(parcels);
    try {
      handle.send(frame, transfer, text && parcels.length === 0);
    } catch {
      // What was put as a part to be moved is none: found out only now.
      handle.inFlight.pop();
      this.#restore(this.#withoutParcels(claimed));
      handle.send([ANSWER, id, undefined, "malformed"]);
    }
    if (handle.local) handle.trim();
  }

  /** Adds copies of the next unclaimed items that the handle has not seen. */
  #addCopies(handle: Handle, posted: unknown[]): void {
    // Without shared words a handle cannot claim; the owner need not copy.
    if (handle.local || handle.blind) return;
    handle.adapt();
    // What was posted ahead before is there already, or on its way.
    const start = handle.copied(this.#base);
    let at = start;
    let weight = 0;
    const end = Math.min(this.#store.size, handle.window);
    for (; at < end; at++) {
      const item = this.#store.at(at);
      if (item instanceof Parcel) break;
      weight += weightOf(item);
      if (weight > WINDOW_WEIGHT) break;
      posted.push(item);
    }
    if (at > start) handle.ahead = (this.#base + at) | 0;
  }

  #postAhead(handle: Handle): void {
    if (handle.closed) return;
    this.#forgetClaimed();
    this.#post(handle, 0, []);
  }

  // --- What comes back -----------------------------------------------------------

  /** Without shared memory: deliveries up to `seq` have reached their callers. */
  #received({ blind, inFlight }: Handle, seq: number): void {
    if (!blind) return;
    while (inFlight.length > 0 && ((inFlight[0]!.seq - seq) | 0) <= 0) {
      Atomics.add(this.words, GOT, inFlight.shift()!.items.length);
    }
    this.changed();
  }

  /**
   * A delivery came too late, or is for a get that was given up. Endpoints in
   * it have travelled, and come back first.
   */
  #takeBack(
    handle: Handle,
    by: "seq" | "id",
    number: unknown,
    parcels: unknown[] = [],
  ): void {
    const { inFlight } = handle;
    const late = inFlight.find((delivery) => delivery[by] === number);
    const held = late?.items.filter(holdsEndpoints);
    if (!late || held!.length !== parcels.length) return;
    handle.inFlight = inFlight.filter((delivery) => delivery !== late);
    held!.forEach((numbered, i) => {
      numbered.item = new Parcel(parcels[i]);
    });
    this.#restore(late.items);
  }

  /** Claimed items go to the front again, and to those who wait. */
  #restore(claimed: Numbered[]): void {
    if (Atomics.load(this.words, STATE) === DROPPED) this.#drop(claimed);
    else {
      this.#back = this.#back.concat(claimed);
      this.#back.sort((a, b) => (b.index - a.index) | 0);
      Atomics.store(this.words, BACK, this.#back.length);
    }
    this.changed();
  }

  /** Ends the gets of a handle; what it had not received goes back; then all that waits is looked at again. */
  #recall(handle: Handle, alive: boolean): void {
    for (const call of [...handle.calls.values()]) {
      const { list, items } = call;
      if (list === this.#putters) {
        // Nobody is there to fill the place.
        if (!alive && items.length === 0) this.#endPut(call, "cancelled");
      } else if (!alive || list === this.#getters) this.#end(call);
    }
    handle.trim();
    const back = [...handle.offers.values()].flat();
    handle.offers.clear();
    const deliveries = handle.inFlight;
    handle.inFlight = [];
    for (const delivery of deliveries) {
      const { items } = delivery;
      // Endpoints that are on their way come back, or were closed on it.
      if (alive && items.some(holdsEndpoints)) handle.inFlight.push(delivery);
      else back.push(...this.#withoutParcels(items));
    }
    this.#restore(back);
  }

  /** What can be delivered again; the rest is lost. */
  #withoutParcels(items: Numbered[]): Numbered[] {
    const kept = items.filter((numbered) => !holdsEndpoints(numbered));
    this.#countDropped(items.length - kept.length);
    return kept;
  }

  // --- Ends of calls ---------------------------------------------------------------

  #cancel(handle: Handle, id: unknown, late: boolean): void {
    const call = handle.calls.get(id as number);
    if (call?.list === this.#putters) this.#endPut(call, "cancelled");
    else if (late && call?.list === this.#getters) {
      // A get that waited long enough: from now on it is one that does not wait.
      call.wait = false;
      call.underway = this.#underway();
      this.#impatient.add(call);
    } else if (call) {
      this.#answer(call, "cancelled");
    } else if (!late && handle.blind) this.#takeBack(handle, "id", id);
    this.changed();
  }

  /** Gets that do not wait are refused once all that was put before them is here. */
  #refuse(): void {
    if (this.#undecided) return;
    for (const getter of this.#impatient) {
      if (this.#isUnderway(getter)) continue;
      this.#impatient.delete(getter);
      getter.underway = undefined;
      if (getter.wait) continue;
      this.#answer(getter, this.#drained() ? "shutdown" : "empty");
    }
  }

  /** The words changed, or a handle is gone: all that waits is looked at again. */
  changed(): void {
    this.#admit();
    this.#serve();
    this.#refuse();
    if (Atomics.load(this.words, STATE) !== OPEN) this.#finishShutdown();
    this.#checkJoiners();
  }

  /** A handle puts and gets no more; what it has put stays. */
  #close(handle: Handle): void {
    if (handle.closed) return; // it is asked again whether all is here
    handle.closed = true;
    this.#recall(handle, true);
  }

  /** A handle's thread or port is gone. Its puts stay, also those that wait. */
  gone(handle: Handle): void {
    this.handles.delete(handle);
    this.#settleAccounts(handle);
    this.#recall(handle, false);
  }

  /**
   * Sets right what threads that ended have left half done: counts what is
   * claimed and neither got nor held here, and takes out places that nothing
   * is to fill, and puts that do not wait.
   */
  #recount(): void {
    const { words } = this;
    // Whoever is at it now will tell; then this is done again.
    Atomics.store(words, BELL, 1);
    const counts = this.#counts();
    if (counts === undefined) return;
    let held = this.#back.length;
    let places = (this.#base + this.#store.size) | 0;
    let next = 4;
    for (const handle of this.handles) {
      handle.trim();
      for (const { items } of handle.inFlight) held += items.length;
      for (const items of handle.offers.values()) held += items.length;
      places = (places + counts[next++]! - handle.arrived) | 0;
    }
    let waiting = 0;
    this.#putters.forEach((putter) => {
      if (this.#waits(putter)) waiting++;
    });
    if (this.#counts()?.join() !== counts.join()) return;
    this.#uncounted = false;
    const [head, got, tail, puts] = counts as [number, number, number, number];
    Atomics.add(words, GOT, (head - held - got) | 0);
    Atomics.add(words, TAIL, (places - tail) | 0);
    Atomics.add(words, PUTS, waiting - puts);
  }

  /** All that other threads count; `undefined` while one of them is at it. */
  #counts(): number[] | undefined {
    const load = (word: number) => Atomics.load(this.words, word);
    const counts = [HEAD, GOT, TAIL, PUTS].map(load);
    for (const { words, offered, shared } of this.handles) {
      if (Atomics.load(words, BUSY) !== 0) return undefined;
      if (Atomics.load(words, OFFERED) !== offered) return undefined;
      if (Atomics.load(words, SHARED) !== shared) return undefined;
      counts.push(Atomics.load(words, ADMITTED));
    }
    return counts;
  }

  /** What a handle has counted and will never post. */
  #settleAccounts(handle: Handle): void {
    const count = handle.missing;
    if (count > 0) Atomics.sub(this.words, TAIL, count);
    const { words } = handle;
    const unoffered = (Atomics.load(words, OFFERED) - handle.offered) | 0;
    // Between the two words of a count: the second may not have been reached.
    if (Atomics.load(words, BUSY) !== 0) this.#uncounted = true;
    else if (unoffered > 0) Atomics.sub(this.words, PUTS, unoffered);
  }

  /** For tests: what it holds now, to check the invariants with. */
  inspect(): CoreState {
    return {
      base: this.#base,
      store: this.#store,
      back: this.#back,
      getters: this.#getters,
      putters: this.#putters,
      joiners: this.#joiners,
      impatient: this.#impatient,
      fresh: this.#fresh,
    };
  }

  /** Every handle is closed. Nobody will get what is left, nor make room. */
  end(): void {
    for (const { item } of this.#claim(Infinity)) dropItem(item);
    this.#putters.forEach((putter) => this.#endPut(putter, "cancelled"));
    this.#ended = true;
    this.#checkJoiners();
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
        if (handle.isNew(id)) this.#wait(this.#joiners, handle, id);
        return this.#checkJoiners();
      case "shutdown":
        this.#shutdown(argument === true);
        return handle.send([ANSWER, id]);
    }
  }

  /** Ends joins, and the queue, when nothing is unfinished. */
  #checkJoiners(): void {
    const { words } = this;
    const waits = this.#joiners.first || (this.#ended && !this.#released);
    // Before looking: who changes `DONE` looks at it.
    Atomics.store(words, JOINERS, waits ? 1 : 0);
    const done = allDone(words);
    if (done) this.#joiners.forEach((call) => this.#answer(call));
    if (!this.#ended || this.#released || (this.joinable && !done)) return;
    // Lets the handles go: there is nothing to ask any more.
    this.#released = true;
    const size = sizeOf(words);
    for (const handle of this.handles) handle.send([ENDED, size]);
  }

  #shutdown(immediate: boolean): void {
    const state = Atomics.load(this.words, STATE);
    if (state === OPEN || immediate) {
      Atomics.store(this.words, STATE, immediate ? DROPPED : SHUT);
    }
    this.#putters.forEach((putter) => this.#endPut(putter, "shutdown"));
    if (immediate) this.#drop(this.#claim(Infinity));
    this.changed();
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
    this.#getters.forEach((getter) => this.#answer(getter, "shutdown"));
  }

  #drop(claimed: Numbered[]): void {
    for (const { item } of claimed) dropItem(item);
    this.#countDropped(claimed.length);
  }

  /** Items that nobody gets any more; nobody will call `task_done` for them. */
  #countDropped(count: number): void {
    Atomics.add(this.words, GOT, count);
    for (let i = 0; i < count; i++) finishTask(this.words);
    this.#checkJoiners();
  }
}

function isInt32(value: unknown): value is number {
  return typeof value === "number" && (value | 0) === value;
}

function holdsEndpoints({ item }: Numbered): boolean {
  return item instanceof Parcel;
}

function dropItem(item: unknown): void {
  if (item instanceof Parcel) drop(item.message);
}

function isOdd(item: unknown): item is Odd {
  return item instanceof Odd;
}

/** What a frame holds for stored items, and whether JSON keeps all of it. */
function contentsOf(items: unknown[]): [contents: unknown[], text: boolean] {
  return items.some(isOdd) ? [items.map(plain), false] : [items, true];
}

function odd(item: unknown): Odd {
  return new Odd(item);
}

function weightOf(item: unknown): number {
  if (isOdd(item)) return weightOf(item.value);
  if (typeof item === "string") return item.length;
  if (typeof item !== "object" || item === null) return 8;
  return UNKNOWN_WEIGHT + weigh(item);
}
