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
 *  2.                                      ← ANSWER id [why not]
 *  Put of endpoints, no room: they stay usable until there is:
 *  1. PUT_WAIT id slot (no item) →         keeps a place
 *  2.                                      ← ANSWER id
 *  3. PUT_PARCEL packed id → (or not, when an endpoint was closed meanwhile: FREED; without words nothing packed)
 *  4.                                      ← ANSWER id
 *     What is put here before 3 lines up in the same way, behind it.
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

import { Copies } from "./_copies.ts";
import { NOTHING } from "./_core.ts";
import { Empty, EOFError, Full, OSError, ShutDown } from "./errors.ts";
import {
  type Descriptor,
  type Draft,
  type Endpoint,
  Parcel,
  prepare,
  transferOf,
  unpack,
} from "./_handoff.ts";
import { DONE as SENT } from "./_outbox.ts";
import { type Transferable, turn } from "./_runtime.ts";
import { plain, stored } from "./_snapshot.ts";
import { type GiveUp, Waiter, WaitList } from "./_waiters.ts";
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
} from "./_wire.ts";
import {
  ADMITTED,
  allDone,
  BELL,
  BUSY,
  DROPPED,
  endSlot,
  finishTask,
  FIRST_SLOT,
  GOT,
  HANDLE_WORDS,
  JOINERS,
  LAST_RECEIVED,
  OFFERED,
  OPEN,
  PUTS,
  reserve,
  SEEN,
  sizeOf,
  STATE,
  TAIL,
  WANTED,
} from "./_words.ts";

/** The way to the owner. */
export interface OwnerPort {
  /** Sends an admitted item; throws when it cannot be cloned. */
  put(item: unknown): void;
  /** Sends a frame, after all that was sent before; throws likewise. */
  post(frame: unknown[], transfer?: Transferable[]): void;
  /** Claims the next item, in the owner's thread; else `NOTHING`. */
  take(): unknown;
  close(): void;
  /** Makes one more handle. */
  share(): Descriptor;
}

/** A call that waits for the owner. */
// deno-lint-ignore no-explicit-any
class Call extends Waiter<any> {
  readonly id: number;
  /** What it does, "get", "put" or a question: its errors say that it cannot. */
  readonly what: string;
  slot = 0;
  /** Of a get: the most items; 0: one, and no list. */
  max = 0;
  /** Of a put that keeps a place: what to post then. */
  draft: Draft | undefined;
  /** Of a `put_many`: all its calls, which end together. */
  batch: Call[] | undefined;
  /** It was given up and waits for the owner's word. */
  givenUp = false;
  reason: unknown;
  /** If a place still comes, it is left. */
  leaves = false;

  constructor(id: number, what: string) {
    super();
    this.id = id;
    this.what = what;
  }
}

/** The most items of an iterable before timers and signals have their turn: it may never end. */
const SPELL = 1024;

/** See the module's comment. */
export class Client implements Endpoint {
  readonly maxsize: number;
  /** Joinable: questions may come after `close`. */
  readonly joinable: boolean;
  readonly #words: Int32Array | undefined;
  readonly #mine: Int32Array | undefined;
  readonly #owner: OwnerPort;
  closed = false;
  /** The owner is gone. */
  #gone = false;
  #portClosed = false;
  readonly #calls = new Map<number, Call>();
  #lastId = 0;
  /** Gets that wait at the owner: later ones line up behind them. */
  #gets = 0;
  readonly #copies: Copies | undefined;
  /** The owner has been asked for more copies. */
  #askedMore = false;
  /** Calls with a draft: later puts line up behind them. */
  #drafts = 0;
  /** Calls of `put_many` under way. */
  #running = 0;
  /** Every handle is closed: the size of the queue for ever. */
  #finalSize: number | undefined;
  /** The owner has all that was put here. */
  #flushed = false;
  #detached = false;
  readonly #joining = new WaitList<Waiter<void>>();
  #abandoned = false;

  constructor(
    owner: OwnerPort,
    maxsize: number,
    joinable: boolean,
    words: Int32Array | undefined,
    mine: Int32Array | undefined,
  ) {
    this.#owner = owner;
    this.maxsize = maxsize;
    this.joinable = joinable;
    this.#words = words;
    this.#mine = mine;
    if (words && mine) {
      this.#copies = new Copies(words, mine, (some) => this.#claimed(some));
    }
  }

  // --- Putting -------------------------------------------------------------------

  put(
    value: unknown,
    transfer: Transferable[] | undefined,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    try {
      this.#live("put");
      const words = this.#words;
      if (words) {
        if (Atomics.load(words, STATE) !== OPEN) {
          throw refusal("put", "shutdown");
        }
        if (this.#drafts === 0) {
          if (this.#hasPlace(words)) {
            this.#putAdmitted(value, transfer);
            return SENT;
          }
          // With room there, only the owner knows for whom: a thread may
          // have ended before it took its waiting put back.
          if (timeout <= 0 && sizeOf(words) >= this.maxsize) {
            throw refusal("put", "full");
          }
        }
      }
      return this.#putWaiting(value, transfer, timeout, signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Takes a place, but none before a put that waits; throws when the queue is shut down meanwhile. */
  #hasPlace(words: Int32Array): boolean {
    if (Atomics.load(words, PUTS) > 0) return false;
    const mine = this.#mine!;
    mine[BUSY] = 1;
    const hasPlace = reserve(words, this.maxsize);
    if (hasPlace) Atomics.add(mine, ADMITTED, 1);
    Atomics.store(mine, BUSY, 0);
    if (!hasPlace) this.#ring(); // no frame says that it is over
    // Only now: who shuts down looks for places after that, and ends the gets.
    else if (Atomics.load(words, STATE) !== OPEN) {
      this.#leavePlace();
      throw refusal("put", "shutdown");
    }
    return hasPlace;
  }

  #putAdmitted(
    value: unknown,
    transfer: Transferable[] | undefined,
  ): void {
    try {
      if (!transfer?.length) {
        try {
          return this.#owner.put(value);
        } catch {
          // It holds endpoints, or cannot be cloned, as `prepare` finds.
        }
      }
      this.#postDraft(prepare(value, transfer));
    } catch (error) {
      this.#leavePlace();
      throw error;
    }
  }

  /** Gives up a place that this handle was admitted to. */
  #leavePlace(): void {
    const words = this.#words;
    if (!words) return this.#owner.post([PUT_PARCEL]);
    this.#count(ADMITTED, TAIL, -1);
    this.#owner.post([FREED]); // a get may wait for what was to come
  }

  /** Counts in a word of this handle, and in one of the queue. */
  #count(own: number, shared: number, by: number): void {
    const mine = this.#mine!;
    mine[BUSY] = 1;
    Atomics.add(mine, own, by);
    Atomics.add(this.#words!, shared, by);
    Atomics.store(mine, BUSY, 0);
  }

  /** Posts an item that has its place; `id`: to be answered. */
  #postDraft(draft: Draft, id?: number): void {
    if (draft.plain) this.#owner.post([PUT, draft.value, 0, id], draft.moved);
    else {
      const { message, transfer } = draft.commit();
      this.#owner.post([PUT_PARCEL, message, id], transfer);
    }
  }

  #putWaiting(
    value: unknown,
    transfer: Transferable[] | undefined,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (!transfer?.length && this.#drafts === 0) {
      try {
        return this.#offer(timeout, signal, [value]);
      } catch {
        // As above.
      }
    }
    return this.#offer(timeout, signal, [], prepare(value, transfer));
  }

  /** Waits in line until there is room, or it is given up. */
  #offer(
    timeout: number,
    signal: AbortSignal | undefined,
    items: unknown[],
    draft?: Draft,
  ): Promise<void> {
    const call = this.#call("put", timeout, signal);
    this.#lineUp(call, timeout > 0, items, draft);
    this.#arm(call, timeout, signal);
    return call.promise;
  }

  /** Lines up at the owner, with a draft or with items; throws when one cannot be cloned. */
  #lineUp(call: Call, wait: boolean, items: unknown[], draft?: Draft): void {
    if (this.#words) this.#count(OFFERED, PUTS, 1);
    let transfer: Transferable[] | undefined;
    if (draft?.plain && this.#drafts === 0) {
      items = [draft.value];
      transfer = draft.moved;
    } else if (draft) {
      // The endpoints stay here, in use, until there is a place for them.
      call.draft = draft;
      this.#drafts++;
    }
    try {
      const frame = [PUT_WAIT, call.id, call.slot, items, wait];
      this.#owner.post(frame, transfer);
    } catch (error) {
      if (this.#words) this.#count(OFFERED, PUTS, -1);
      this.#ring();
      call.promise.catch(() => {});
      this.#end(call, error);
      throw error;
    }
    if (this.#detached) call.letGo();
  }

  /** The place of a draft is there. */
  #place(call: Call, draft: Draft): void {
    call.draft = undefined;
    this.#drafts--;
    try {
      if (call.leaves) throw call.reason;
      this.#postDraft(draft, call.id);
    } catch (error) {
      // First: their places may come before this returns.
      if (call.batch) this.#giveUpAll(call.batch, error, true);
      this.#leavePlace();
      this.#end(call, error);
    }
  }

  async putMany(
    items: Iterable<unknown>,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    this.#live("put");
    const deadline = performance.now() + timeout;
    const left = () => Math.max(0, deadline - performance.now());
    let spell = 0;
    this.#running++;
    try {
      const list = listOf(items);
      if (list) return await this.#putList(list, timeout, signal);
      for (const item of items) {
        if (++spell % SPELL === 0) {
          await turn();
          if (timeout > 0 && left() === 0) throw refusal("put", "full");
        }
        if (signal?.aborted) throw signal.reason;
        await this.put(item, undefined, left(), signal);
      }
    } finally {
      this.#running--;
      this.#ranOut();
    }
  }

  /** Puts what there is room for. The rest lines up at once, as it is now: no later put overtakes it. */
  async #putList(
    items: unknown[],
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let at = 0;
    const words = this.#words;
    while (
      at < items.length && words && this.#drafts === 0 &&
      this.#hasPlace(words)
    ) {
      this.#putAdmitted(items[at++], undefined);
    }
    const batch: Call[] = [];
    const lineUp = (copies: unknown[], draft?: Draft) => {
      // No slot: what is not stored at one moment, only the owner can end.
      const call = this.#call("put", timeout, signal, false);
      call.batch = batch;
      batch.push(call);
      this.#lineUp(call, true, copies, draft);
    };
    let refused: { why: unknown } | undefined;
    const rest = items.slice(at);
    const copies = this.#drafts === 0 ? copiesOf(rest) : undefined;
    try {
      if (!copies) {
        for (const item of rest) lineUp([], prepare(item, undefined));
      } else if (copies.length > 0) lineUp(copies);
    } catch (why) {
      refused = { why };
    }
    const giveUp = (why: GiveUp) =>
      this.#giveUpAll(
        batch,
        why === "abort" ? signal!.reason : refusal("put", "full"),
      );
    if (timeout <= 0) giveUp("timeout");
    else batch.at(-1)?.arm(timeout, signal, giveUp);
    const ends = await Promise.allSettled(batch.map((call) => call.promise));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
    if (refused) throw refused.why;
  }

  /** Gives up what waits of a `put_many`; `leaves`: also the places that still come, so what is stored has no gap. */
  #giveUpAll(batch: Call[], reason: unknown, leaves = false): void {
    for (const call of batch) call.leaves ||= leaves;
    const waiting = batch.filter((call) => !call.done && !call.givenUp);
    for (const call of waiting) {
      call.givenUp = true;
      call.reason = reason;
    }
    // The last one first: what gets room meanwhile follows what is stored.
    for (const { id } of waiting.reverse()) this.#owner.post([CANCEL, id]);
  }

  /** A `put_many` has ended: what waited for that goes on. */
  #ranOut(): void {
    if (this.#running > 0) return;
    if (this.closed) this.#owner.post([CLOSE]);
    if (this.#abandoned) this.abandon();
  }

  // --- Getting -------------------------------------------------------------------

  get(timeout: number, signal: AbortSignal | undefined): Promise<unknown> {
    try {
      this.#live("get");
      if (this.#gets === 0) {
        const item = this.#claim();
        if (item !== NOTHING) return Promise.resolve(item);
      }
      return this.#ask(0, timeout, signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  getMany(
    max: number,
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<unknown[]> {
    try {
      this.#live("get");
      const items = this.#gets === 0
        ? this.#copies?.claimSeveral(max)
        : undefined;
      if (items) return Promise.resolve(items);
      return this.#ask(max, timeout, signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Claims the next item without asking the owner, if it can. */
  #claim(): unknown {
    const item = this.#owner.take();
    if (item !== NOTHING) {
      this.#ring();
      return item instanceof Parcel ? unpack(item.message) : item;
    }
    return this.#copies ? this.#copies.claim() : NOTHING;
  }

  /** After each attempt to claim copies; `some`: it succeeded. */
  #claimed(some: boolean): void {
    this.#ring();
    if (!some || this.#askedMore || !this.#copies!.low) return;
    this.#askedMore = true;
    this.#owner.post([MORE]);
  }

  /** `GOT` changed, or this handle is not `BUSY` any more: tells the owner if it waits for that. */
  #ring(): void {
    const words = this.#words;
    if (!words || Atomics.load(words, BELL) === 0) return;
    if (Atomics.compareExchange(words, BELL, 1, 0) === 1) {
      this.#owner.post([FREED]);
    }
  }

  #ask(
    max: number,
    timeout: number,
    signal: AbortSignal | undefined,
    // deno-lint-ignore no-explicit-any
  ): Promise<any> {
    const words = this.#words;
    const wait = timeout > 0;
    if (words) {
      // Before the size: what was put before a shutdown is to be got.
      const state = Atomics.load(words, STATE);
      const none = sizeOf(words) === 0;
      // After it: 0 is also the size of what was dropped.
      const dropped = Atomics.load(words, STATE) === DROPPED;
      if (dropped || (none && state !== OPEN)) {
        throw refusal("get", "shutdown");
      }
      if (none && !wait) throw refusal("get", "empty");
    }
    const call = this.#call("get", timeout, signal);
    call.max = max;
    this.#gets++;
    this.#askedMore = false;
    this.#owner.post([GET, call.id, call.slot, max || 1, wait]);
    this.#arm(call, timeout, signal);
    return call.promise;
  }

  // --- Calls that wait -------------------------------------------------------------

  #call(
    what: string,
    timeout: number,
    signal: AbortSignal | undefined,
    slotted = true,
  ): Call {
    const call = new Call(this.#newId(), what);
    // A get may also end by a copy that comes before its answer.
    const canEnd = what === "get" || signal !== undefined ||
      (timeout > 0 && timeout < Infinity);
    const mine = canEnd && slotted && this.#mine;
    for (let slot = FIRST_SLOT; mine && slot < HANDLE_WORDS; slot++) {
      if (Atomics.compareExchange(mine, slot, 0, call.id) !== 0) continue;
      call.slot = slot;
      break;
    }
    this.#calls.set(call.id, call);
    return call;
  }

  /** Numbers fit into a word, with their sign. */
  #newId(): number {
    let id = this.#lastId;
    do id = id % 0x7fff_ffff + 1; while (this.#calls.has(id));
    return this.#lastId = id;
  }

  /** The owner has answered, or never will. */
  #forget(call: Call): void {
    this.#calls.delete(call.id);
    if (call.what === "get") this.#gets--;
    if (call.draft) this.#drafts--;
    // Not that of the next call, if the owner has ended this one before.
    if (call.slot > 0) endSlot(this.#mine!, call.slot, call.id);
    this.#closeIfDone();
  }

  #end(call: Call, error: unknown): void {
    this.#forget(call);
    call.fail(error);
  }

  #arm(call: Call, timeout: number, signal: AbortSignal | undefined): void {
    call.arm(timeout > 0 ? timeout : Infinity, signal, (why) => {
      this.#giveUp(call, why, signal);
    });
  }

  #giveUp(call: Call, why: GiveUp, signal: AbortSignal | undefined): void {
    const { id, what, slot } = call;
    const mine = this.#mine!;
    // Only the owner can say that a get finds nothing, however late.
    const late = why === "timeout" && what === "get" &&
      (!this.#words || sizeOf(this.#words) > 0);
    // Without words at once: what comes all the same goes back.
    let ended = what === "get" ? !this.#words && !late : what !== "put";
    if (slot > 0 && !late) {
      mine[BUSY] = 1;
      ended = endSlot(mine, slot, id);
      // At once: no put may be refused for one that waits no more.
      if (ended && what === "put") Atomics.sub(this.#words!, PUTS, 1);
      Atomics.store(mine, BUSY, 0);
      if (!ended) this.#ring(); // perhaps no frame says that it is over
    }
    if (call.givenUp && !ended) return;
    call.givenUp = true;
    call.reason = why === "abort"
      ? signal!.reason
      : refusal(what, what === "get" ? "empty" : "full");
    if (ended) this.#end(call, call.reason);
    this.#owner.post([CANCEL, id, late]);
  }

  // --- Frames of the owner -----------------------------------------------------------

  /** Handles a frame; returns whether it ended a get. */
  receive(frame: Frame): boolean {
    const gets = this.#gets;
    this.#handle(frame);
    return this.#gets < gets;
  }

  /** Ignores what is malformed or answers nothing. */
  #handle(frame: Frame): void {
    const [tag, id, b, c, d, e, f] = frame;
    const call = this.#calls.get(id as number);
    switch (tag) {
      case ITEMS:
        if (!isCount(id) || !isCount(d) || !Array.isArray(e)) return;
        if (d > e.length || !areIndices(f, d)) return;
        return this.#items(call, Number(b), Number(c) | 0, d, e, f);
      case ANSWER:
        if (!call) return;
        if (call.draft && c === undefined) return this.#place(call, call.draft);
        this.#forget(call);
        if (c === undefined) call.settle(b);
        else {
          const own = c === "cancelled" && call.givenUp;
          call.fail(own ? call.reason : refusal(call.what, c));
        }
        return;
      case OFFER:
        if (!isCount(id)) return;
        return this.#owner.post([ACCEPT, id, call?.what === "get"]);
      case CLOSED:
        return this.#ownerHasAll();
      case ENDED:
        if (!this.closed || !isCount(id)) return;
        this.#finalSize = id;
        return this.#closeIfDone();
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
      this.#askedMore = false;
      this.#copies?.add(first, items.slice(claimed));
    }
    if (this.#words) {
      Atomics.store(this.#mine!, SEEN, (first + items.length - claimed) | 0);
    }
    if (claimed === 0) return this.#serveByCopies();
    const packed = Array.isArray(parcels) ? parcels as number[] : [];
    if (call?.what !== "get") {
      const parcels = packed.map((i) => items[i]);
      const transfer = parcels.flatMap(transferOf);
      return this.#owner.post([GIVE_BACK, seq, parcels], transfer);
    }
    if (this.#words) {
      const mine = this.#mine!;
      this.#copies!.served(claimed);
      mine[BUSY] = 1;
      Atomics.store(mine, LAST_RECEIVED, seq);
      Atomics.add(this.#words, GOT, claimed);
      Atomics.store(mine, BUSY, 0);
    }
    try {
      items.length = claimed;
      for (const i of packed) items[i] = unpack(items[i]);
      call.settle(call.max > 0 ? items : items[0]);
    } catch (error) {
      call.fail(error);
    }
    // Last: in the owner's own thread the next get may be served in here.
    if (this.#words) this.#ring();
    else this.#owner.post([RECEIVED, seq]);
    // After that: it may close this handle.
    this.#forget(call);
  }

  /** The first get, if the owner has not heard of it yet, is served by copies that it has posted before; the next one when that caller has its item. */
  #serveByCopies(): void {
    const call = this.#firstGet();
    if (call === undefined) return;
    const { slot, id } = call;
    const max = call.max || 1;
    if (slot === 0 || this.#copies!.claimable(max) === 0) return;
    // Not if the owner has served it: its answer is on its way.
    if (!endSlot(this.#mine!, slot, id, -id)) return;
    const items = this.#copies!.claimSeveral(max);
    // Without a copy: others were faster.
    const state = Atomics.exchange(this.#mine!, slot, items ? 0 : id);
    if (state === WANTED) this.#owner.post([FREED]);
    if (items === undefined) return;
    this.#forget(call);
    call.settle(call.max > 0 ? items : items[0]);
    if (this.#gets > 0) SENT.then(() => this.#serveByCopies());
  }

  #firstGet(): Call | undefined {
    if (this.#gets === 0) return undefined;
    for (const call of this.#calls.values()) {
      if (call.what === "get") return call;
    }
    return undefined;
  }

  // --- Questions ---------------------------------------------------------------------

  async size(): Promise<number> {
    this.#live("count");
    return this.#words
      ? sizeOf(this.#words)
      : this.#finalSize ?? await this.#question("count", "size");
  }

  async shutdown(immediate: boolean): Promise<void> {
    this.#live("shut down");
    await this.#question("shut down", "shutdown", immediate);
  }

  async taskDone(): Promise<void> {
    this.#live("mark a task as done");
    const words = this.#words;
    const done = words ? finishTask(words) : this.#finalSize === undefined &&
      await this.#question("mark a task as done", "done");
    if (!done) {
      throw new RangeError(
        "Cannot mark a task as done: task_done() called too many times",
      );
    }
    if (words && Atomics.load(words, JOINERS) > 0 && allDone(words)) {
      this.#owner.post([FREED]);
    }
  }

  async join(signal: AbortSignal | undefined): Promise<void> {
    this.#live("join");
    if (this.#words ? allDone(this.#words) : this.#finalSize !== undefined) {
      return;
    }
    await this.#question("join", "join", undefined, signal);
  }

  #question(
    what: string,
    question: string,
    argument?: boolean,
    signal?: AbortSignal,
    // deno-lint-ignore no-explicit-any
  ): Promise<any> {
    const call = this.#call(what, Infinity, signal, false);
    this.#owner.post([ASK, call.id, question, argument]);
    this.#arm(call, Infinity, signal);
    return call.promise;
  }

  #live(what: string): void {
    if (this.#gone) throw refusal(what, "gone");
  }

  /** Throws when it cannot be shared. */
  check(): void {
    if (this.closed) throw refusal("hand over the queue", "closed");
    this.#live("hand over the queue");
  }

  /** Makes one more handle; this one stays open. */
  give(): Descriptor {
    return this.#owner.share();
  }

  // --- The end -------------------------------------------------------------------------

  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const call of [...this.#calls.values()]) {
      if (call.what === "get") this.#end(call, refusal("get", "cancelled"));
    }
    this.#copies?.drop();
    this.#owner.post([CLOSE]);
  }

  /** The owner has all that was put here. */
  #ownerHasAll(): void {
    if (this.#running > 0) return; // it will be asked again
    // Of a put that came behind CLOSE: its getters have closed this handle.
    for (const { what } of this.#calls.values()) if (what === "put") return;
    this.#flushed = true;
    this.#joining.settleAll();
    this.#closeIfDone();
  }

  /** When the owner has said that it has all, the port is needed as long as there is something to ask: the words answer for a plain queue. */
  #closeIfDone(): void {
    if (this.#abandoned) return this.abandon();
    const ended = this.#finalSize !== undefined && this.#calls.size === 0;
    if (this.#flushed && (ended || (this.#words && !this.joinable))) {
      this.#closePort();
    }
  }

  #closePort(): void {
    if (this.#portClosed) return;
    this.#portClosed = true;
    this.#owner.post([EOF]);
    this.#owner.close();
  }

  async joinThread(signal: AbortSignal | undefined): Promise<void> {
    if (this.#flushed || this.#detached) return;
    this.#live("join the thread");
    const waiter = new Waiter<void>();
    this.#joining.push(waiter);
    waiter.arm(Infinity, signal, () => waiter.fail(signal!.reason));
    await waiter.promise;
  }

  cancelJoinThread(): void {
    this.#detached = true;
    this.#joining.settleAll();
    for (const call of this.#calls.values()) {
      if (call.what === "put") call.letGo();
    }
  }

  /** The owner's thread has ended. */
  ownerEnded(): void {
    this.#gone = true;
    for (const call of [...this.#calls.values()]) {
      this.#end(call, refusal(call.what, "gone"));
    }
    this.#joining.failAll(() => refusal("join the thread", "gone"));
    this.#copies?.drop();
    this.#closePort();
  }

  /** For tests: what decides its next steps. */
  inspect(): [Map<number, Call>, Copies | undefined, ...unknown[]] {
    return [
      this.#calls,
      this.#copies,
      this.#gets,
      this.#askedMore,
      this.#flushed,
      this.#portClosed,
      this.#gone,
      this.#detached,
      this.#joining.first,
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
    if (!this.#joining.first) this.#closePort();
  }
}

/** The items that a collection holds now; `undefined`: they may never end. */
function listOf(items: Iterable<unknown>): unknown[] | undefined {
  const { length, size } = items as { length?: unknown; size?: unknown };
  return typeof (length ?? size) === "number" ? [...items] : undefined;
}

/** Copies of items, each its own; `undefined`: one holds endpoints, or cannot be cloned, as `prepare` finds. */
function copiesOf(items: unknown[]): unknown[] | undefined {
  try {
    return items.map((item) => plain(stored(item)));
  } catch {
    return undefined;
  }
}

function areIndices(field: unknown, below: number): boolean {
  return field === undefined || Array.isArray(field) &&
      field.every((index) => isCount(index) && index < below);
}

function refusal(what: string, why: unknown): Error {
  const cannot = `Cannot ${what}: `;
  switch (why) {
    case "empty":
      return new Empty(cannot + "the queue is empty");
    case "full":
      return new Full(cannot + "the queue is full");
    case "shutdown":
      return new ShutDown(cannot + "the queue has been shut down");
    case "malformed":
      return new TypeError(cannot + "the item is malformed, and was dropped");
    case "gone":
      return new EOFError(cannot + "the thread that owns the queue has ended");
    default:
      return new OSError(cannot + "the queue is closed");
  }
}
