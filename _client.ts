/**
 * One handle's side of a queue: what `Queue` does, for the owner's own handle
 * and for every other. Counts and claims in the shared words where it can, and
 * asks the owner where it must.
 *
 *     handle                               owner
 *  Put, room is there (words: `TAIL` moved, `ADMITTED` counted):
 *  1. PUT item, PUT_SEVERAL items →        stores, or delivers to a waiting get
 *  Put, no room or no words (`PUTS` counted):
 *  1. PUT_WAIT id slot item →              stores when there is room
 *  2.                                      ← STORED id | REFUSED id why
 *  Put of endpoints, no room: they stay usable until there is:
 *  1. PUT_WAIT id slot (no item) →         keeps a place
 *  2.                                      ← STORED id
 *  3. PUT_PARCEL packed → (or UNPUT: one of the endpoints was closed meanwhile)
 *  4. no words, the frame says so:         ← STORED id
 *     What is put here before that lines up in the same way, behind it.
 *  Get, a copy of item `HEAD` is here (words): `HEAD` moved, no frame
 *  Get otherwise:
 *  1. GET id slot max wait →               claims, or waits, or refuses
 *  2.                                      ← ITEMS id seq first claimed items, and copies of the next
 *     words: or copies come that the owner has posted before it heard of the
 *     get; it then ends by its slot, with a claimed copy.
 *  3. words: `LAST_RECEIVED`, `GOT`; else RECEIVED seq →
 *     The item holds endpoints: first ← OFFER id, and ACCEPT id wanted →
 *  Giving up (timeout, abort), with a slot: decided at once by the word;
 *     then CANCEL id →. Without: a get ends at once, and items that come all
 *     the same go back: GIVE_BACK seq →; a put waits for the owner's word.
 *  Closing: CLOSE → ... ← CLOSED, when nothing is left to ask EOF →; at the
 *     latest when every handle is closed, ← ENDED size, EOF →.  Owner gone: every call ends in EOFError.
 */

import { type Transferable, turn } from "./_endpoint.ts";
import { Empty, EOFError, Full, OSError, ShutDown } from "./errors.ts";
import {
  type Draft,
  type Endpoint,
  type Handed,
  Parcel,
  prepare,
  transferOf,
  unpack,
} from "./_handoff.ts";
import { NOTHING } from "./_core.ts";
import { DONE as SENT } from "./_outbox.ts";
import { snapshot } from "./_snapshot.ts";
import { type GiveUp, Waiter } from "./_waiters.ts";
import {
  ACCEPT,
  ANSWER,
  ASK,
  CANCEL,
  CLOSE,
  CLOSED,
  ENDED,
  EOF,
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
  PUT_WAIT,
  RECEIVED,
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
  HANDLE_WORDS,
  HEAD,
  HITS,
  JOINERS,
  LAST_RECEIVED,
  MISSES,
  OFFERED,
  OPEN,
  PUTS,
  reserve,
  SEEN,
  sizeOf,
  STATE,
  TAIL,
} from "./_words.ts";

/** The way to the owner. */
export interface OwnerPort {
  /** Sends an admitted item; throws when it cannot be cloned. */
  put(item: unknown): Promise<void>;
  /** Sends a frame, after all that was sent before; throws likewise. `text`: JSON keeps everything in it. */
  post(frame: unknown[], transfer?: Transferable[], text?: boolean): void;
  /** Claims the next item, in the owner's thread; else `NOTHING`. */
  take(): unknown;
  close(): void;
  /** Makes one more handle. */
  share(): Handed;
}

/** What a call waits for at the owner. */
interface Call {
  id: number;
  readonly kind: "get" | "put" | "ask";
  // deno-lint-ignore no-explicit-any
  readonly waiter: Waiter<any>;
  slot: number;
  /** Of a get: the most items, a list or not, whether it may wait. */
  max: number;
  single: boolean;
  wait: boolean;
  /** A put that was given up and waits for the owner's word. */
  reason: unknown;
  givenUp: boolean;
}

/** An item of a `put_many` whose own put decides: it holds an endpoint, or cannot be cloned. */
class Alone {
  readonly value: unknown;
  constructor(value: unknown) {
    this.value = value;
  }
}

/** The most items of one `put_many` that are posted before it looks again. */
const CHUNK = 256;

/** The most items of an iterable before timers and signals have their turn: it may never end. */
const SPELL = 1024;

/** See the module's comment. */
export class Client implements Endpoint {
  readonly maxsize: number;
  /** Joinable: questions may come after `close`. */
  readonly joinable: boolean;
  readonly words: Int32Array | undefined;
  readonly mine: Int32Array | undefined;
  readonly owner: OwnerPort;
  closed = false;
  /** The owner is gone. */
  gone = false;
  #portClosed = false;
  readonly #calls = new Map<number, Call>();
  #lastId = 0;
  /** Gets that wait at the owner: later ones line up behind them. */
  #gets = 0;
  #freeSlots: number[] = [];
  // Copies of items that may be claimed; the first is item number `#index`.
  #copies: unknown[] = [];
  #index = 0;
  #at = 0;
  #askedMore = false;
  /** Items that the owner handed over since copies were last found claimed. */
  #served = 0;
  #lastPut: Promise<void> = SENT;
  /** Puts that keep a place at the owner, and post their item then. */
  #drafts = 0;
  /** Calls of `put_many` under way. */
  #running = 0;
  /** Every handle is closed: the size of the queue for ever. */
  #finalSize: number | undefined;
  /** The owner has all that was put here. */
  #flushed = false;
  #detached = false;
  readonly #joining = new Set<Waiter<void>>();
  #abandoned = false;

  constructor(
    owner: OwnerPort,
    maxsize: number,
    joinable: boolean,
    words: Int32Array | undefined,
    mine: Int32Array | undefined,
  ) {
    this.owner = owner;
    this.maxsize = maxsize;
    this.joinable = joinable;
    this.words = words;
    this.mine = mine;
    if (mine) {
      for (let i = HANDLE_WORDS - 1; i >= FIRST_SLOT; i--) {
        this.#freeSlots.push(i);
      }
    }
  }

  // --- Putting -------------------------------------------------------------------

  put(
    value: unknown,
    transfer: Transferable[] | undefined,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (this.gone) return Promise.reject(ownerGone("put"));
    const { words } = this;
    try {
      if (words) {
        if (Atomics.load(words, STATE) !== OPEN) throw shutDown("put");
        if (this.#drafts === 0) {
          if (this.#reserve(1) === 1) return this.#putAdmitted(value, transfer);
          if (timeout <= 0) throw full();
        }
      }
      return this.#putWaiting(value, transfer, timeout, signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Takes places for up to `count` items, none before a put that waits. */
  #reserve(count: number): number {
    const words = this.words!;
    if (this.maxsize > 0 && Atomics.load(words, PUTS) > 0) return 0;
    const places = reserve(words, this.maxsize, count);
    if (places > 0) Atomics.add(this.mine!, ADMITTED, places);
    return places;
  }

  /** Gives places back that `#reserve` took. */
  #unreserve(count: number): void {
    Atomics.sub(this.mine!, ADMITTED, count);
    Atomics.sub(this.words!, TAIL, count);
    this.owner.post([FREED]); // a get may wait for what was to come
  }

  #putAdmitted(
    value: unknown,
    transfer: Transferable[] | undefined,
  ): Promise<void> {
    try {
      if (!transfer?.length) {
        try {
          return this.owner.put(value);
        } catch (refusal) {
          const draft = prepare(value, undefined);
          if (draft === undefined) throw refusal;
          this.#postDraft(draft);
          return SENT;
        }
      }
      this.#postDraft(prepare(value, transfer)!);
      return SENT;
    } catch (error) {
      this.#unreserve(1);
      throw error;
    }
  }

  /** Posts an item that has its place; `id`: to be answered. */
  #postDraft(draft: Draft, id?: number): void {
    if (draft.plain) this.owner.post([PUT, draft.value, 0, id], draft.moved);
    else {
      const { message, transfer } = draft.commit();
      this.owner.post([PUT_PARCEL, message, id], transfer);
    }
  }

  #putWaiting(
    value: unknown,
    transfer: Transferable[] | undefined,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (transfer?.length) {
      return this.#putDraft(prepare(value, transfer)!, timeout, signal);
    }
    if (this.#drafts > 0) return this.#putBehind(value, timeout, signal);
    try {
      return this.#offer([value], undefined, timeout, signal);
    } catch (refusal) {
      const draft = prepare(value, undefined);
      if (draft === undefined) throw refusal;
      return this.#putDraft(draft, timeout, signal);
    }
  }

  #putDraft(
    draft: Draft,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (draft.plain && this.#drafts === 0) {
      return this.#offer([draft.value], draft.moved, timeout, signal);
    }
    // The endpoints stay here, in use, until there is a place for them.
    return this.#putPlaced(timeout, signal, (id) => this.#postDraft(draft, id));
  }

  /** Puts after an item that has kept its place and is not posted yet. */
  #putBehind(
    value: unknown,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let copy: unknown;
    try {
      copy = snapshot(value);
    } catch (refusal) {
      const draft = prepare(value, undefined);
      if (draft === undefined) throw refusal;
      return this.#putDraft(draft, timeout, signal);
    }
    return this.#putPlaced(timeout, signal, (id) => {
      this.owner.post([PUT, copy, 0, id]);
    });
  }

  /** Keeps a place, and calls `post` when it is there. */
  async #putPlaced(
    timeout: number,
    signal: AbortSignal | undefined,
    post: (id: number | undefined) => void,
  ): Promise<void> {
    this.#drafts++;
    let stored: Promise<void> | undefined;
    try {
      await this.#offer([], undefined, timeout, signal);
      try {
        stored = this.#postPlaced(post);
      } catch (error) {
        this.owner.post([UNPUT]);
        throw error;
      }
    } finally {
      this.#drafts--;
    }
    await stored;
  }

  /** Without shared words only the owner can say that an item is there. */
  #postPlaced(
    post: (id: number | undefined) => void,
  ): Promise<void> | undefined {
    if (this.words) return void post(undefined);
    const call = this.#call<void>("put", Infinity, undefined);
    try {
      post(call.id);
    } catch (error) {
      this.#drop(call, error);
      throw error;
    }
    return call.waiter.promise;
  }

  /** Lines up at the owner; throws when an item cannot be cloned. */
  #offer(
    items: unknown[],
    transfer: Transferable[] | undefined,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    // Several are not stored at one moment: only the owner can end that.
    const slotted = items.length < 2;
    const call = this.#call<void>("put", timeout, signal, slotted);
    const { words, mine } = this;
    if (words) {
      // Side by side: a thread is not terminated between the two.
      Atomics.add(mine!, OFFERED, 1);
      Atomics.add(words, PUTS, 1);
    }
    try {
      const frame = [PUT_WAIT, call.id, call.slot, items, timeout > 0];
      this.owner.post(frame, transfer);
    } catch (error) {
      if (words) {
        Atomics.sub(mine!, OFFERED, 1);
        Atomics.sub(words, PUTS, 1);
      }
      this.#drop(call, error);
      throw error;
    }
    if (this.#detached) call.waiter.letGo();
    this.#arm(call, timeout, signal);
    return call.waiter.promise;
  }

  /** Ends a call that has not begun. */
  #drop(call: Call, error: unknown): void {
    this.#forget(call);
    call.waiter.promise.catch(() => {});
    call.waiter.fail(error);
  }

  async putMany(
    items: Iterable<unknown>,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const deadline = timeout === Infinity ? Infinity : now() + timeout;
    const left = () =>
      deadline === Infinity ? Infinity : Math.max(0, deadline - now());
    this.#running++;
    try {
      if (Array.isArray(items)) {
        await this.#putRest(this.#putNow(items), left, signal);
      } else {
        let spell = 0;
        for (const item of items) {
          if (++spell === SPELL) {
            spell = 0;
            await turn();
            if (timeout > 0 && left() === 0) throw full();
          }
          if (signal?.aborted) throw signal.reason;
          await this.put(item, undefined, left(), signal);
        }
      }
      await this.#lastPut; // posted, not only called
    } finally {
      this.#running--;
      this.#ranOut();
    }
  }

  /** A `put_many` has ended: what waited for that goes on. */
  #ranOut(): void {
    if (this.#running > 0) return;
    if (this.#abandoned) this.abandon();
    else if (this.closed && !this.#flushed && !this.#portClosed) {
      this.owner.post([CLOSE]);
    }
    this.#closeIfEnded();
  }

  /** Puts what there was no room for: plain items line up together. */
  async #putRest(
    items: unknown[],
    left: () => number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    for (let at = 0; at < items.length;) {
      if (signal?.aborted) throw signal.reason;
      let end = at;
      while (end < items.length && !(items[end] instanceof Alone)) end++;
      if (end > at + 1 && this.#drafts === 0 && !this.gone) {
        await this.#offer(items.slice(at, end), undefined, left(), signal);
        at = end;
      } else {
        const item = items[at++];
        const value = item instanceof Alone ? item.value : item;
        await this.put(value, undefined, left(), signal);
      }
    }
  }

  /** Puts as much as there is room for; returns the rest, as it is now. */
  #putNow(items: unknown[]): unknown[] {
    let at = 0;
    while (
      this.words && !this.gone && this.#drafts === 0 && at < items.length
    ) {
      if (Atomics.load(this.words, STATE) !== OPEN) break;
      const places = this.#reserve(Math.min(CHUNK, items.length - at));
      if (places === 0) break;
      for (let i = 0; i < places; i++, at++) {
        try {
          this.#lastPut = this.#putAdmitted(items[at], undefined);
        } catch (error) {
          this.#unreserve(places - i - 1);
          throw error;
        }
      }
    }
    return items.slice(at).map((item) => {
      try {
        return snapshot(item);
      } catch {
        return new Alone(item);
      }
    });
  }

  // --- Getting -------------------------------------------------------------------

  get(timeout: number, signal: AbortSignal | undefined): Promise<unknown> {
    if (this.gone) return Promise.reject(ownerGone("get"));
    try {
      if (this.#gets === 0) {
        const item = this.#claim();
        if (item !== NOTHING) return Promise.resolve(item);
      }
      return this.#ask(1, true, timeout, signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  getMany(
    max: number,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<unknown[]> {
    if (this.gone) return Promise.reject(ownerGone("get"));
    try {
      const items = this.#gets === 0 ? this.#claimSeveral(max) : undefined;
      if (items) return Promise.resolve(items);
      return this.#ask(max, false, timeout, signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Claims the next item without asking the owner, if it can. */
  #claim(): unknown {
    const item = this.owner.take();
    if (item !== NOTHING) {
      this.#ring();
      return item instanceof Parcel ? unpack(item.message) : item;
    }
    if (this.#claimCopies(1) === 0) return NOTHING;
    const at = this.#at - 1;
    const copy = this.#copies[at];
    this.#copies[at] = undefined; // the caller's alone from now on
    return copy;
  }

  /** Claims the next items, up to `max`; `undefined`: the owner has to be asked. */
  #claimSeveral(max: number): unknown[] | undefined {
    const count = this.#claimCopies(max);
    return count > 0
      ? this.#copies.slice(this.#at - count, this.#at)
      : undefined;
  }

  /** Claims the next copies, as many as `#claimable` says. */
  #claimCopies(max: number): number {
    let count: number;
    while ((count = this.#claimable(max)) > 0) {
      const next = (this.#index + count) | 0;
      if (
        Atomics.compareExchange(this.words!, HEAD, this.#index, next) ===
          this.#index
      ) {
        this.#at += count;
        this.#index = next;
        this.#claimed(count);
        return count;
      }
    }
    return 0;
  }

  /** How many of up to `max` items can be claimed here: `max`, or all that there are; else 0. */
  #claimable(max: number): number {
    const { words } = this;
    if (this.#at === this.#copies.length || Atomics.load(words!, BACK) > 0) {
      return 0;
    }
    const behind = (Atomics.load(words!, HEAD) - this.#index) | 0;
    if (behind < 0) return 0;
    let left = this.#copies.length - this.#at;
    if (behind > 0) { // others were faster, or the owner served a get with them
      const missed = Math.min(behind, left) - this.#served;
      if (missed > 0) Atomics.add(this.mine!, MISSES, missed);
      this.#served = 0;
      this.#at += behind;
      this.#index = (this.#index + behind) | 0;
      left -= behind;
      if (left <= 0) {
        this.#dropCopies();
        return 0;
      }
    }
    if (left >= max) return max;
    const there = (Atomics.load(words!, TAIL) - this.#index) | 0;
    return there > left ? 0 : left;
  }

  #dropCopies(): void {
    this.#copies = [];
    this.#at = 0;
  }

  /** After a claim: the owner may wait for it, or be asked for more. */
  #claimed(count: number): void {
    Atomics.add(this.words!, GOT, count);
    Atomics.add(this.mine!, HITS, count);
    this.#ring();
    if (this.#askedMore || this.#at * 2 < this.#copies.length) return;
    this.#askedMore = true;
    this.owner.post([MORE], undefined, true);
  }

  /** `GOT` changed: tells the owner if it waits for that. */
  #ring(): void {
    const words = this.words;
    if (!words || Atomics.load(words, BELL) === 0) return;
    if (Atomics.compareExchange(words, BELL, 1, 0) === 1) {
      this.owner.post([FREED], undefined, true);
    }
  }

  #ask<T>(
    max: number,
    single: boolean,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const { words } = this;
    const wait = timeout > 0;
    if (words) {
      const state = Atomics.load(words, STATE);
      const none = sizeOf(words) === 0;
      if (state === DROPPED || (none && state !== OPEN)) throw shutDown("get");
      if (none && !wait) throw empty();
    }
    const call = this.#call<T>("get", timeout, signal);
    call.single = single;
    call.max = max;
    call.wait = wait;
    this.#gets++;
    this.#postGet(call);
    this.#arm(call, timeout, signal);
    return call.waiter.promise;
  }

  #postGet({ id, slot, max, wait }: Call): void {
    this.#askedMore = false;
    this.owner.post([GET, id, slot, max, wait], undefined, true);
  }

  // --- Calls that wait -------------------------------------------------------------

  #call<T>(
    kind: Call["kind"],
    timeout: number,
    signal: AbortSignal | undefined,
    slotted = kind !== "ask",
  ): Call {
    const id = this.#newId();
    const waiter = new Waiter<T>();
    let slot = 0;
    // A get may also end by a copy that comes before its answer.
    const canEnd = kind === "get" || signal !== undefined ||
      (timeout > 0 && timeout < Infinity);
    if (canEnd && slotted && this.#freeSlots.length > 0) {
      slot = this.#freeSlots.pop()!;
      Atomics.store(this.mine!, slot, id);
    }
    const call: Call = {
      id,
      kind,
      waiter,
      slot,
      max: 0,
      single: false,
      wait: false,
      reason: undefined,
      givenUp: false,
    };
    this.#calls.set(id, call);
    return call;
  }

  /** Numbers fit into a word, with their sign. */
  #newId(): number {
    return this.#lastId = this.#lastId % 0x7fff_ffff + 1;
  }

  /** The owner has answered, or never will. */
  #forget(call: Call): void {
    if (!this.#calls.delete(call.id)) return;
    if (call.kind === "get") this.#gets--;
    if (call.slot > 0) {
      Atomics.store(this.mine!, call.slot, 0);
      this.#freeSlots.push(call.slot);
    }
    if (this.#abandoned) this.abandon();
    else this.#closeIfEnded();
  }

  #arm(call: Call, timeout: number, signal: AbortSignal | undefined): void {
    if (call.waiter.done || (timeout <= 0 && !signal)) return;
    call.waiter.arm(timeout > 0 ? timeout : Infinity, signal, (why) => {
      this.#giveUp(call, why, signal);
    });
  }

  #giveUp(call: Call, why: GiveUp, signal: AbortSignal | undefined): void {
    const reason = why === "abort"
      ? signal!.reason
      : call.kind === "get"
      ? empty()
      : full();
    const asks = why === "timeout" && call.kind === "get" &&
      this.#mayHaveItems();
    const { slot } = call;
    const ended = slot > 0 && !asks && endSlot(this.mine!, slot, call.id);
    if (slot > 0 && !asks && !ended && Atomics.load(this.mine!, slot) === 0) {
      return; // Served already: the answer is on its way.
    }
    // At once: no put may be refused for one that waits no more.
    if (ended && call.kind === "put") Atomics.sub(this.words!, PUTS, 1);
    if (
      !ended &&
      (asks || call.kind === "put" || (call.kind === "get" && this.words))
    ) {
      if (call.givenUp) return;
      call.givenUp = true;
      call.reason = reason;
      return this.owner.post([CANCEL, call.id, asks]);
    }
    this.#forget(call);
    call.waiter.fail(reason);
    this.owner.post([CANCEL, call.id]);
  }

  /** Whether only the owner can say that a get finds nothing, however late. */
  #mayHaveItems(): boolean {
    return this.words === undefined || sizeOf(this.words) > 0;
  }

  // --- Frames of the owner -----------------------------------------------------------

  /** Handles a frame; ignores what is malformed or answers nothing. */
  receive(frame: Frame): void {
    const [tag, id, b, c, d, e, f] = frame;
    const call = this.#calls.get(id as number);
    switch (tag) {
      case ITEMS:
        if (!isCount(id) || !isCount(d) || !Array.isArray(e)) return;
        if (d > e.length || !areIndices(f, d)) return;
        return this.#items(call, Number(b), Number(c) | 0, d, e, f);
      case STORED:
        if (call?.kind !== "put") return;
        this.#forget(call);
        return void call.waiter.settle(undefined);
      case REFUSED:
        if (!call || call.kind === "ask") return;
        this.#forget(call);
        return void call.waiter.fail(refusal(call, b));
      case ANSWER:
        if (call?.kind !== "ask") return;
        this.#forget(call);
        return void call.waiter.settle(b);
      case OFFER:
        if (!isCount(id)) return;
        return this.owner.post([ACCEPT, id, call?.kind === "get"]);
      case CLOSED:
        return this.#ownerHasAll();
      case ENDED:
        if (!this.closed || !isCount(id)) return;
        this.#finalSize = id;
        return this.#closeIfEnded();
    }
  }

  #items(
    call: Call | undefined,
    seq: number,
    first: number,
    claimed: number,
    items: unknown[],
    parcels: unknown,
  ): void {
    if (items.length > claimed) {
      this.#addCopies(first, items, claimed);
    }
    if (this.words) {
      Atomics.store(this.mine!, SEEN, (first + items.length - claimed) | 0);
    }
    if (claimed === 0) return this.#serveByCopies();
    const packed = Array.isArray(parcels) ? parcels as number[] : [];
    if (call?.kind !== "get") {
      const parcels = packed.map((i) => items[i]);
      const transfer = parcels.flatMap(transferOf);
      return this.owner.post([GIVE_BACK, seq, parcels], transfer);
    }
    this.#forget(call);
    if (this.words) {
      this.#served += claimed;
      Atomics.add(this.mine!, HITS, claimed);
      Atomics.store(this.mine!, LAST_RECEIVED, seq);
      Atomics.add(this.words, GOT, claimed);
    }
    try {
      if (items.length > claimed) items.length = claimed;
      for (const i of packed) items[i] = unpack(items[i]);
      call.waiter.settle(call.single ? items[0] : items);
    } catch (error) {
      call.waiter.fail(error);
    }
    // Last: in the owner's own thread the next get may be served in here.
    if (this.words) this.#ring();
    else this.owner.post([RECEIVED, seq]);
  }

  /** Gets that the owner has not heard of yet are served by copies it has posted before. */
  #serveByCopies(): void {
    if (this.#gets === 0) return;
    for (const call of this.#calls.values()) {
      if (call.kind !== "get") continue;
      const { slot, id, max, single, waiter } = call;
      if (slot === 0 || this.#claimable(max) === 0) return;
      // Not if the owner has served it: its answer is on its way.
      if (!endSlot(this.mine!, slot, id)) return;
      const items = this.#claimSeveral(max);
      if (items === undefined) { // others were faster
        this.#calls.delete(id);
        call.id = this.#newId();
        this.#calls.set(call.id, call);
        Atomics.store(this.mine!, slot, call.id);
        return this.#postGet(call);
      }
      this.#forget(call);
      waiter.settle(single ? items[0] : items);
    }
  }

  #addCopies(index: number, items: unknown[], from: number): void {
    this.#askedMore = false;
    const left = this.#copies.length - this.#at;
    const follow = left > 0 && ((this.#index + left) | 0) === index;
    if (follow) {
      this.#copies = this.#copies.slice(this.#at).concat(items.slice(from));
    } else {
      this.#copies = items.slice(from);
      this.#index = index;
    }
    this.#at = 0;
  }

  // --- Questions ---------------------------------------------------------------------

  size(): Promise<number> {
    if (this.gone) return Promise.reject(ownerGone("count"));
    if (this.words) return Promise.resolve(sizeOf(this.words));
    if (this.#finalSize !== undefined) return Promise.resolve(this.#finalSize);
    return this.#question("size", undefined, undefined);
  }

  shutdown(immediate: boolean): Promise<void> {
    if (this.gone) return Promise.reject(ownerGone("shut down"));
    return this.#question("shutdown", immediate, undefined).then(() => {});
  }

  async taskDone(): Promise<void> {
    if (this.gone) throw ownerGone("mark a task as done");
    const { words } = this;
    const done = words ? finishTask(words) : this.#finalSize === undefined &&
      await this.#question("done", undefined, undefined);
    if (!done) {
      throw new RangeError(
        "Cannot mark a task as done: task_done() called too many times",
      );
    }
    if (words && Atomics.load(words, JOINERS) > 0 && allDone(words)) {
      this.owner.post([FREED]);
    }
  }

  join(signal: AbortSignal | undefined): Promise<void> {
    if (this.gone) return Promise.reject(ownerGone("join"));
    if (this.words ? allDone(this.words) : this.#finalSize !== undefined) {
      return SENT;
    }
    return this.#question("join", undefined, signal).then(() => {});
  }

  #question<T>(
    question: string,
    argument: unknown,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const call = this.#call<T>("ask", Infinity, signal);
    this.owner.post([ASK, call.id, question, argument]);
    this.#arm(call, Infinity, signal);
    return call.waiter.promise;
  }

  /** Throws when it cannot be shared. */
  check(): void {
    if (this.closed) {
      throw new OSError("Cannot hand over the queue: the queue is closed");
    }
    if (this.gone) throw ownerGone("hand over the queue");
  }

  /** Makes one more handle; this one stays open. */
  give(): Handed {
    return this.owner.share();
  }

  // --- The end -------------------------------------------------------------------------

  close(): void {
    if (this.closed) return;
    this.closed = true;
    if (this.gone) return;
    for (const call of [...this.#calls.values()]) {
      if (call.kind !== "get") continue;
      if (call.slot > 0) endSlot(this.mine!, call.slot, call.id);
      this.#forget(call);
      call.waiter.fail(handleClosed("get"));
    }
    this.#dropCopies();
    this.owner.post([CLOSE]);
  }

  /** The owner has all that was put here. */
  #ownerHasAll(): void {
    if (this.#running > 0) return; // it will be asked again
    this.#flushed = true;
    for (const waiter of this.#joining) waiter.settle(undefined);
    this.#joining.clear();
    // The words answer what can still be asked of a plain queue.
    if (this.#abandoned || (this.words && !this.joinable)) this.#closePort();
    else this.#closeIfEnded();
  }

  /** Every handle is closed: once nothing waits here, the port is not needed. */
  #closeIfEnded(): void {
    if (
      this.#finalSize !== undefined && this.#calls.size === 0 &&
      this.#running === 0 && this.#joining.size === 0
    ) this.#closePort();
  }

  #closePort(): void {
    if (this.#portClosed) return;
    this.#portClosed = true;
    if (!this.gone) this.owner.post([EOF]);
    this.owner.close();
  }

  joinThread(signal: AbortSignal | undefined): Promise<void> {
    if (this.#flushed || this.#detached) return SENT;
    if (this.gone) return Promise.reject(ownerGone("join the thread"));
    const waiter = new Waiter<void>();
    this.#joining.add(waiter);
    waiter.arm(Infinity, signal, () => {
      this.#joining.delete(waiter);
      waiter.fail(signal!.reason);
      this.#closeIfEnded();
    });
    return waiter.promise;
  }

  cancelJoinThread(): void {
    this.#detached = true;
    for (const waiter of this.#joining) waiter.settle(undefined);
    this.#joining.clear();
    for (const call of this.#calls.values()) {
      if (call.kind === "put") call.waiter.letGo();
    }
  }

  /** The owner's thread has ended. */
  ownerEnded(): void {
    if (this.gone || this.#portClosed) return;
    this.gone = true;
    for (const call of [...this.#calls.values()]) {
      this.#forget(call);
      call.waiter.fail(ownerGone(call.kind));
    }
    for (const waiter of this.#joining) {
      waiter.fail(ownerGone("join the thread"));
    }
    this.#joining.clear();
    this.#dropCopies();
    this.#closePort();
  }

  /** For tests: what decides its next steps. */
  inspect(): unknown[] {
    const calls = [...this.#calls.values()].map((call) => [
      call.id,
      call.kind,
      call.slot,
      call.givenUp,
    ]);
    const copies = this.#copies.slice(this.#at);
    return [
      calls,
      copies,
      copies.length > 0 ? this.#index : 0,
      this.#at,
      this.#gets,
      this.#freeSlots,
      this.#askedMore,
      this.#served,
      this.#flushed,
      this.#portClosed,
      this.closed,
      this.gone,
      this.#detached,
      this.#joining.size,
      this.#drafts,
      this.#running,
      this.#finalSize,
    ];
  }

  /** The queue was garbage-collected: closes once no call waits any more. */
  abandon(): void {
    this.#abandoned = true;
    if (this.#calls.size > 0 || this.#running > 0) return;
    this.close();
    if (this.#joining.size === 0) this.#closePort();
  }
}

function allDone(words: Int32Array): boolean {
  return Atomics.load(words, TAIL) === Atomics.load(words, DONE);
}

function now(): number {
  return performance.now();
}

function refusal(call: Call, why: unknown): unknown {
  if (why === "shutdown") return shutDown(call.kind);
  if (why === "full") return full();
  if (why === "empty") return empty();
  if (why === "malformed") {
    return new TypeError("Cannot get: the item is malformed, and was dropped");
  }
  return call.givenUp ? call.reason : handleClosed(call.kind);
}

function areIndices(field: unknown, below: number): boolean {
  return field === undefined || Array.isArray(field) &&
      field.every((index) => isCount(index) && index < below);
}

function handleClosed(what: string): OSError {
  return new OSError(`Cannot ${what}: the queue is closed`);
}

function empty(): Empty {
  return new Empty("Cannot get: the queue is empty");
}

function full(): Full {
  return new Full("Cannot put: the queue is full");
}

function shutDown(what: string): ShutDown {
  return new ShutDown(`Cannot ${what}: the queue has been shut down`);
}

function ownerGone(what: string): EOFError {
  return new EOFError(
    `Cannot ${what}: the thread that owns the queue has ended`,
  );
}
