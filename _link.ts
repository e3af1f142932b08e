/**
 * One end of a pipe: order, backpressure, end of file, death of the peer, and
 * what waits; no argument checks.
 *
 * Backpressure: the sender counts messages and weight that the reader has not
 * taken; at the window's messages or weight, `send` waits. The reader reports
 * (TOOK) in steps of half a window of messages, an eighth of its weight; and,
 * when it has heard that a send waits (WAITS), as soon as it stops taking: room
 * is kept from nobody. One that often has to wait itself offers a wide window.
 *
 * Invariant: a receive waits only while the inbox is empty. How its frames get
 * there, and how they still do when an end moves, is in `_route.ts`.
 */

import { BrokenPipeError, EOFError, OSError } from "./errors.ts";
import {
  type Descriptor,
  drop,
  type Endpoint,
  malformed,
  prepare,
} from "./_handoff.ts";
import { type ByteMessage, Inbox } from "./_inbox.ts";
import { noticed, peerOf } from "./_locks.ts";
import { DONE, Outbox } from "./_outbox.ts";
import { adopt, isPort, movable, type OpenPort } from "./_port.ts";
import { Route, type RouteListener, transferOfFrame } from "./_route.ts";
import {
  bytesLimits,
  isTransferred,
  settled,
  type Transferable,
  turn,
} from "./_runtime.ts";
import { weigh } from "./_snapshot.ts";
import { textOf } from "./_text.ts";
import { Waiter, WaitList } from "./_waiters.ts";
import {
  EOF,
  type Frame,
  isCount,
  isFrame,
  OBJECT,
  OBJECTS,
  PARCEL,
  TOOK,
  WAITS,
} from "./_wire.ts";

const WINDOW = 256;
const WIDE_WINDOW = 1024;
/** After so many half windows for more than which it had to wait, the reader offers the wide one. */
const HUNGRY = 8;
const WINDOW_WEIGHT = 4 * 1024 * 1024;

/** A pending receive: of an object, or of bytes, which `consume` makes the result of. */
export class Receive<T> extends Waiter<T> {
  readonly consume: ((message: ByteMessage) => T) | undefined;

  constructor(consume: ((message: ByteMessage) => T) | undefined) {
    super();
    this.consume = consume;
  }
}

// The open ends of this thread whose other end is not here, by pipe: two that
// meet know of each other at once.
const here = new Map<string, Link>();

/** See the module's comment. */
export class Link implements Endpoint {
  readonly #pipe: string;
  readonly #side: 0 | 1;
  readable: boolean;
  writable: boolean;
  closed = false;
  /** It was given away. */
  moved = false;
  /** The peer is gone: nothing can be sent any more. */
  #gone = false;
  /** The other end, as long as both are in this thread. */
  #sibling: Link | undefined;
  readonly #route: Route;
  readonly #inbox = new Inbox();
  readonly #outbox: Outbox;
  /** Chunks to be used again: what they held counts in the inbox, so there are never many. */
  #spent: ArrayBuffer[] = [];
  /** Until what had happened before the start is known. */
  #starting: Promise<void> | undefined;
  /** The peer has taken something that was sent from here. */
  #read = false;
  // Sent, and not yet taken by the peer; how many messages it allows.
  #messages = 0;
  #weight = 0;
  #window = WINDOW;
  /** The reader was told that a send waits, or is about to be, and has not answered. */
  #inquired = false;
  /** Whether a call has waited to read since this end last said what it allows. */
  #waited = false;
  /** Half windows in which one has. */
  #hungry = 0;
  /** A send waits at the peer, and has not been answered. */
  #awaited = false;
  /** Reading was ended: what comes in is dropped. */
  #skips = false;
  /** The next message that is taken is reported at once. */
  #eager = false;
  // deno-lint-ignore no-explicit-any
  readonly #receivers = new WaitList<Receive<any>>();
  readonly #watchers = new Set<(why?: string) => void>();
  readonly #senders = new WaitList<Waiter<void>>();
  #sender: Waiter<void> | undefined;

  constructor(
    pipe: string,
    end: 0 | 1,
    readable: boolean,
    writable: boolean,
    ports: OpenPort[],
  ) {
    this.#pipe = pipe;
    this.#side = end;
    this.readable = readable;
    this.writable = writable;
    this.#meet();
    this.#route = new Route(ports, this.#listener);
    this.#outbox = new Outbox(
      (frame, transfer) => this.#route.out?.post(frame, transfer),
      OBJECT,
      OBJECTS,
      (weight) => this.#weight += weight,
    );
  }

  #meet(): void {
    const other = here.get(this.#pipe);
    if (other === undefined || other.#side === this.#side) {
      here.set(this.#pipe, this);
    } else {
      here.delete(this.#pipe);
      this.#sibling = other;
      other.#sibling = this;
    }
  }

  #part(): void {
    const sibling = this.#sibling;
    if (here.get(this.#pipe) === this) here.delete(this.#pipe);
    if (sibling) {
      sibling.#sibling = this.#sibling = undefined;
      here.set(this.#pipe, sibling);
      sibling.#alone();
    }
  }

  /** The other end is not here any more: they hear of each other by their ports only. */
  #alone(): void {
    this.#eager = true; // its first send may want to know that it was read
    if ((this.#route.out?.posted ?? 0) > 0) this.start();
  }

  /** Begins to receive: at the first use, so that a fresh end can travel anywhere. */
  start(): void {
    if (this.#route.started) return;
    if (!this.#sibling) {
      this.#starting = settled(() => this.#gone || this.closed)
        .then(() => this.#starting = undefined);
    }
    this.#route.start();
  }

  // What cannot be done is thrown: `Connection` makes rejections of it.

  // --- Sending -----------------------------------------------------------------

  send(
    value: unknown,
    transfer: readonly Transferable[] | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    this.#open();
    if (this.#gone) {
      // As in Python, what cannot be sent to anybody says so first.
      if (!transfer?.length) prepare(value, undefined, this.#pipe);
      throw brokenPipe();
    }
    if (transfer?.length) this.#sendParcel(value, transfer);
    else this.#push(value);
    return this.#sent(signal);
  }

  #push(value: unknown): void {
    try {
      this.#outbox.push(value);
    } catch {
      // The platform refuses endpoints: only now is it worth looking for them.
      this.#sendParcel(value);
    }
  }

  #sendParcel(value: unknown, transfer?: readonly Transferable[]): void {
    const draft = prepare(value, transfer, this.#pipe);
    const weight = weigh(value); // which may call getters
    this.#stillOpen();
    const parcel = draft.commit();
    this.#outbox.pushParcel([PARCEL, parcel.message], parcel.transfer, weight);
  }

  sendBytes(bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    this.#open();
    if (this.#gone) throw brokenPipe();
    this.#outbox.pushBytes(bytes);
    return this.#sent(signal);
  }

  /** A message may have getters, which close this end. */
  #stillOpen(): void {
    if (this.#route.out) return;
    throw this.closed ? closedError("send", this) : brokenPipe();
  }

  /** As long as both are here this end hears of the other without its port. */
  #open(): void {
    if (!this.#sibling) this.start();
  }

  #sent(signal: AbortSignal | undefined): Promise<void> {
    this.#stillOpen();
    this.#messages++;
    const sent = noticed(this.#hasRoom() ? DONE : this.#waitForRoom(signal));
    return this.#starting === undefined ? sent : this.#firstSent(sent);
  }

  /** Only a started port tells, a little later, that its other side had gone before. */
  async #firstSent(sent: Promise<void>): Promise<void> {
    sent.catch(() => {}); // awaited later
    await this.#starting;
    // A peer that took something, and then closed, has said so.
    if (this.#gone && !this.closed && !this.#read) throw brokenPipe();
    await sent;
  }

  #hasRoom(): boolean {
    return this.#messages < this.#window &&
      (this.#weight < WINDOW_WEIGHT || this.#messages <= 1);
  }

  #waitForRoom(signal: AbortSignal | undefined): Promise<void> {
    this.start(); // which may read what was queued: reports, the end
    this.#stillOpen();
    if (this.#hasRoom()) return DONE;
    // Room comes for all at once: calls that cannot be aborted wait together.
    const last = this.#sender;
    if (signal === undefined && last && !last.done) return last.promise;
    const waiter = new Waiter<void>();
    this.#senders.push(waiter);
    if (signal) waiter.arm(Infinity, signal, () => waiter.fail(signal.reason));
    else this.#sender = waiter;
    this.#inquire();
    return waiter.promise;
  }

  /** A send waits: what the reader has taken and not reported may be room for it. */
  #inquire(): void {
    if (this.#inquired) return;
    this.#inquired = true;
    // When the turn ends, and only if what a reader keeps to itself, less than
    // half a window, can matter: of a burst, more has to be taken first.
    DONE.then(() => {
      if (this.#senders.first && this.#messages < 1.5 * this.#window) {
        this.#route.out?.post(textOf([WAITS]));
      } else this.#inquired = false;
    });
  }

  #taken(frame: Frame): void {
    const [, messages, weight, window, chunks] = frame;
    if (!isCount(messages) || !isCount(weight)) return;
    if (messages > 0) this.#read = true;
    this.#messages = Math.max(0, this.#messages - messages);
    this.#weight = Math.max(0, this.#weight - weight);
    if (window === WINDOW || window === WIDE_WINDOW) this.#window = window;
    this.#outbox.recycle(chunks);
    this.#inquired = false;
    if (!this.#senders.first) return;
    if (this.#hasRoom()) this.#senders.settleAll();
    else this.#inquire();
  }

  // --- Receiving ---------------------------------------------------------------

  /**
   * Receives the next message: an object, or bytes, of which `consume` makes
   * the result, or throws.
   */
  receive<T>(
    consume: ((message: ByteMessage) => T) | undefined,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    this.start(); // also to hear of sends that wait
    if (this.#receivers.first === undefined) {
      const next = this.#inbox.next;
      if (next !== undefined) {
        return Promise.resolve(this.#take(next, consume));
      }
      if (!this.#route.out) throw endOfFile();
    }
    const waiter = new Receive<T>(consume);
    this.#waited = true;
    this.#receivers.push(waiter);
    if (signal) waiter.arm(Infinity, signal, () => waiter.fail(signal.reason));
    return waiter.promise;
  }

  /** Takes the next message, if it is of the kind that is wanted. */
  #take<T>(
    next: "object" | "bytes",
    consume: ((message: ByteMessage) => T) | undefined,
  ): T {
    if ((consume ? "bytes" : "object") !== next) throw wrongKind(next);
    const inbox = this.#inbox;
    try {
      return consume ? consume(inbox.takeBytes()) : inbox.takeObject() as T;
    } finally {
      this.#report();
    }
  }

  /** Lets the sender use a chunk again whose bytes have been copied out. */
  recycle({ chunk, whole }: ByteMessage): void {
    if (whole && chunk.length >= bytesLimits.recycled) {
      this.#spent.push(chunk.buffer);
    }
  }

  /** How many messages this end allows to be unread. */
  get #offered(): number {
    return this.#hungry < HUNGRY ? WINDOW : WIDE_WINDOW;
  }

  #report(): void {
    const inbox = this.#inbox;
    if (inbox.messages >= this.#offered / 2) {
      if (this.#waited) this.#hungry++;
      this.#waited = false;
    } else if (!this.#eager && inbox.weight < WINDOW_WEIGHT / 8) return;
    this.#tellTaken();
  }

  /** A send waits at the peer: answers when nothing more is taken. Who goes on taking will report by itself. */
  async #answer(): Promise<void> {
    if (this.#awaited) return;
    this.#awaited = true;
    const inbox = this.#inbox;
    for (let seen = -1; this.#awaited && seen !== inbox.messages;) {
      seen = inbox.messages;
      await turn();
    }
    if (!this.#awaited) return;
    this.#awaited = false;
    this.#eager = true; // unless there is something to report
    this.#tellTaken();
  }

  #tellTaken(): void {
    const { messages, weight } = this.#inbox;
    const chunks = this.#spent;
    const { out } = this.#route;
    if (messages > 0 && out) {
      this.#awaited = this.#eager = false;
      const frame: Frame = [TOOK, messages, weight, this.#offered];
      // In this thread the other end hears of the end at once: of this, too.
      if (this.#sibling) this.#sibling.#taken([...frame, chunks]);
      else if (chunks.length === 0) out.post(textOf(frame));
      else out.post([...frame, chunks], chunks);
    }
    this.#spent = [];
    this.#inbox.messages = this.#inbox.weight = 0;
  }

  /** Whether a receive would not have to wait: also when it is closed. */
  get ready(): boolean {
    return !this.#route.out ||
      (this.readable && this.#inbox.next !== undefined);
  }

  /** Calls `look` whenever this end is ready, and with the reason when it can be read no more. */
  watch(look: (why?: string) => void): void {
    this.#waited = true;
    this.#watchers.add(look);
    this.start();
  }

  /** Takes a {@linkcode watch} back. */
  unwatch(look: (why?: string) => void): void {
    this.#watchers.delete(look);
  }

  #serve(): void {
    const receivers = this.#receivers;
    let next = this.#inbox.next;
    while (receivers.first && next) {
      const receiver = receivers.first;
      receivers.remove(receiver); // what it finds may end all the others
      try {
        receiver.settle(this.#take(next, receiver.consume));
      } catch (error) {
        receiver.fail(error);
      }
      next = this.#inbox.next;
    }
    if (!this.#route.out && next === undefined) receivers.failAll(endOfFile);
    if (this.ready) { for (const look of this.#watchers) look(); }
  }

  /** The connection was garbage-collected: closes once no call waits any more. */
  abandon(): void {
    const waiting = this.#receivers.first;
    if (!waiting) return this.close();
    const again = () => this.abandon();
    waiting.promise.then(again, again);
  }

  /** Ends reading: what is there and what will come is dropped. */
  endReading(): void {
    this.readable = false;
    this.#skips = true;
    this.#skip();
    this.#refuse("connection is write-only");
  }

  /** Ends every call that waits for something to read. */
  #refuse(why: string): void {
    this.#receivers.failAll(() => new OSError(`Cannot receive: ${why}`));
    for (const look of this.#watchers) look(why);
  }

  // --- Frames --------------------------------------------------------------------

  readonly #listener: RouteListener = {
    frame: (frame) => this.#accept(frame),
    lostSome: () => this.#lostSome(),
    end: () => this.#end(),
  };

  #accept(frame: Frame): void {
    switch (frame[0]) {
      case TOOK:
        return this.#taken(frame);
      case WAITS:
        return void this.#answer();
      case EOF:
        return this.#end();
      default:
        this.#inbox.push(frame);
        if (this.readable) return this.#serve();
        return this.#skip();
    }
  }

  /** Messages are lost on their way here, and what the peer has reported. */
  #lostSome(): void {
    this.#forgive();
    this.#messages = this.#weight = 0;
    this.#inquired = false;
    this.#senders.settleAll();
  }

  /** For an end that reads no more: what is there counts as read. */
  #skip(): void {
    this.#dropInbox();
    this.#forgive();
  }

  /** Reports everything as taken: nobody will take what is lost. */
  #forgive(): void {
    this.#route.out?.post([
      TOOK,
      Number.MAX_SAFE_INTEGER,
      Number.MAX_SAFE_INTEGER,
    ]);
  }

  /** The peer cannot be reached any more. */
  #broken(): void {
    this.#gone = true;
    this.#senders.failAll(brokenPipe);
  }

  #end(): void {
    this.#broken();
    this.#route.close();
    this.#serve();
  }

  // --- Closing and moving ----------------------------------------------------------

  close(): void {
    if (this.closed) return;
    this.#outbox.flush();
    this.#tellTaken();
    const { out } = this.#route;
    if (out && !out.idle) out.post(textOf([EOF]));
    if (this.#sibling) this.#sibling.#broken(); // before the last frame is read
    this.#leave("the handle is closed");
    for (const frame of out?.unread() ?? []) {
      if (isFrame(frame)) this.#inbox.push(frame);
    }
    this.#dropInbox();
    this.#route.close();
  }

  /** Nobody will read what is there: closes the endpoints in it. */
  #dropInbox(): void {
    for (const frame of this.#inbox.drain()) {
      if (frame[0] === PARCEL) drop(frame[1]);
    }
  }

  /** Ends every call that waits here. */
  #leave(why: string): void {
    this.closed = true;
    this.#refuse(why);
    // Their messages have been posted: they arrive whatever happens here.
    this.#senders.settleAll();
    this.#part();
  }

  /** Throws when this end cannot travel, or not through the given pipe. */
  check(through: string | undefined): void {
    if (this.closed) {
      throw closedError("hand over the connection", this);
    }
    if (through === this.#pipe) {
      throw new TypeError(
        "Cannot send the connection: it cannot travel through itself or its own peer",
      );
    }
  }

  /** Gives this end away: here it is closed, the descriptor is all of it. */
  give(): Descriptor {
    this.#outbox.flush();
    this.#tellTaken();
    const sibling = this.#sibling;
    this.moved = true;
    this.#leave("the connection was handed over");
    const open = this.#route.leave(sibling !== undefined);
    // To answer when this one was replugged, even if it is never used.
    if (open.length > 1) sibling?.start();
    const peers = open.map(peerOf);
    const inbox = this.#inbox.drain();
    const descriptor: Descriptor = {
      kind: "connection",
      pipe: this.#pipe,
      end: this.#side,
      readable: this.readable,
      writable: this.writable,
      skips: this.#skips,
      gone: this.#gone,
      ports: open.map((port) => port.give()),
      peers,
      inbox,
      counts: [this.#messages, this.#weight, ...this.#route.moves],
    };
    this.#route.close();
    if (open.length > 1 || inbox.some(([tag]) => tag === PARCEL)) {
      return movable(descriptor, portsOf(descriptor));
    }
    return descriptor;
  }

  /** The end that a descriptor describes, open in this thread. */
  static from(descriptor: Descriptor): Link {
    const { pipe, end, readable, writable, ports, peers } = descriptor;
    const { inbox, counts, skips, gone } = descriptor;
    if (
      typeof pipe !== "string" || (end !== 0 && end !== 1) ||
      typeof readable !== "boolean" || typeof writable !== "boolean" ||
      !Array.isArray(ports) || !ports.every(isPort) || !Array.isArray(peers) ||
      !Array.isArray(inbox) || !isCounts(counts)
    ) throw malformed();
    const open = ports.map((port, i) => adopt(port, peers[i]));
    const link = new Link(pipe, end, readable, writable, open);
    [link.#messages, link.#weight, ...link.#route.moves] = counts;
    link.#eager = true; // its mover may have been told that a send waits
    // What it was replugged with may be in the port of the other end, unread.
    if (open.length > 1) link.#sibling?.start();
    for (const frame of inbox) if (isFrame(frame)) link.#inbox.push(frame);
    // What was known of an end in this thread may take a while through a drain.
    link.#gone = gone === true;
    link.#skips = skips === true;
    if (link.#skips) link.start();
    return link;
  }
}

/** Dispatches what has already been delivered to this thread for these ends. */
export function settle(links: readonly Link[]): Promise<void> {
  for (const link of links) link.start();
  return settled(() => links.every((link) => link.ready));
}

/** What has to be transferred with a connection's descriptor. */
export function portsOf({ ports, inbox }: Descriptor): Transferable[] {
  const frames = Array.isArray(inbox) ? inbox.filter(isFrame) : [];
  return [
    ...Array.isArray(ports) ? ports.filter(isTransferred) : [],
    ...frames.flatMap(transferOfFrame),
  ];
}

/** What an end that moved has counted. */
function isCounts(
  field: unknown,
): field is [messages: number, weight: number, moves: number, peers: number] {
  return Array.isArray(field) && field.length === 4 && field.every(isCount);
}

/** What any use of a closed end is refused with. */
export function closedError(what: string, { moved }: Link): OSError {
  const why = moved ? ": it was handed over" : "";
  return new OSError(`Cannot ${what}: handle is closed${why}`);
}

function brokenPipe(): BrokenPipeError {
  return new BrokenPipeError(
    "Cannot send: the other end is closed or its thread has ended",
  );
}

function endOfFile(): EOFError {
  return new EOFError(
    "Cannot receive: the other end is closed and everything has been read",
  );
}

function wrongKind(next: "object" | "bytes"): TypeError {
  return new TypeError(
    next === "bytes"
      ? "Cannot receive an object: the next message is bytes, read it with recv_bytes() or recv_bytes_into()"
      : "Cannot receive bytes: the next message is an object, read it with recv()",
  );
}
