/**
 * One message port of this thread, and how ports travel and are closed. What
 * the platform's do, and do not, is in `_runtime.ts`.
 */

import { arrived, isTravelling, LocalPort } from "./_local_channel.ts";
import {
  depart,
  dismiss,
  greeted,
  HELLO,
  introduce,
  isPeer,
  linger,
  type Watch,
  watchesPeers,
  watchPeer,
} from "./_locks.ts";
import {
  channel,
  closeEvents,
  closeMethod,
  closesOnce,
  dressing,
  isTransferred,
  moved,
  once,
  portClosed,
  portOpened,
  postMessage,
  queuedIn,
  startedPortsTravel,
  type Transferable,
  transferWorks,
  travelLoses,
  turn,
  uniqueName,
  withChannel,
  workerThreads,
} from "./_runtime.ts";
import { isPlain } from "./_snapshot.ts";
import { parsed } from "./_text.ts";
import { type Frame, isFrame } from "./_wire.ts";

type Refable = MessagePort & { unref?: () => void };

/** Whether a field of a message is a port, or, with a single thread, the name of one. */
export function isPort(field: unknown): field is MessagePort {
  return isTransferred(field) || isTravelling(field);
}

/** What hears of a started port. */
export interface PortListener {
  /**
   * A frame arrived; `text`: as text.
   *
   * @returns `true`: a caller is to see what it brought before the next one
   * comes: if the caller ends its thread, what that brings is not lost.
   */
  frame(port: OpenPort, frame: Frame, text: boolean): boolean | void;
  /** The other side is gone; all it posted has been delivered. */
  gone(port: OpenPort): void;
}

/** The most messages that are taken for one event. */
const MOST_TAKEN = 256;

/** What takes the next message out of a started port; `undefined` where that is slow (Deno) or unknown. */
const taker = once(() =>
  closesOnce() ? workerThreads?.receiveMessageOnPort : undefined
);

// A port has one owner: a message that names it again is a forgery.
const owned = new WeakSet<MessagePort>();

/** One message port of this thread: not started until {@linkcode OpenPort.start}. */
export class OpenPort {
  /** The platform's port; only to be posted, inside a transfer list. */
  raw: MessagePort;
  #listener: PortListener | undefined;
  /** Neither closed nor given away. */
  open = true;
  started = false;
  /** The other side is known to be gone. */
  dead = false;
  /** The other end, as long as neither has left this thread. */
  twin: OpenPort | undefined;
  /** How many frames have been posted. */
  posted = 0;
  /** What was posted before the other side could notice the end of this thread. */
  #unposted: (() => void)[] | undefined;
  /** Web Locks only: what this port has to do with them. */
  readonly watch: Watch = {
    received: 0,
    named: false,
    ended: false,
    peer: undefined,
  };

  constructor(raw: MessagePort) {
    this.raw = raw;
    owned.add(raw);
    portOpened();
    // Node says it once, whether the port has been started or not.
    if (closeEvents() && !dressing()) raw.addEventListener("close", this.lost);
  }

  /** Begins to receive. Does not keep the thread alive. */
  start(listener: PortListener): void {
    this.#listener = listener;
    if (this.started || !this.open) return;
    this.started = true;
    // Where ends are replugged: the other end may use another port already.
    if (!startedPortsTravel() && !this.#receiveQueued()) return;
    if (this.dead) {
      // No event will tell of what it sent.
      return queueMicrotask(() => {
        if (this.#receiveQueued()) listener.gone(this);
      });
    }
    const { raw } = this;
    raw.addEventListener("message", this.#onMessage);
    raw.addEventListener("messageerror", this.lost);
    if (closeEvents()) raw.addEventListener("close", this.lost);
    raw.start();
    (raw as Refable).unref?.(); // after the listeners: adding one refs again
    if (this.watch.peer) watchPeer(this, this.watch.peer);
  }

  /** Receives what is queued; returns whether the port is still open. */
  #receiveQueued(): boolean {
    try {
      for (const message of this.open ? queuedIn(this.raw) : []) {
        this.#receive(message);
        if (!this.open) break;
      }
    } catch {
      this.lost(); // as `messageerror`
    }
    return this.open;
  }

  /** Posts at once; throws `DataCloneError` when the value cannot be cloned. */
  post(frame: unknown, transfer?: Transferable[]): void {
    if (this.#unposted) return this.#keep(frame, transfer ?? []);
    if (!transfer?.length) {
      postMessage.call(this.raw, frame);
    } else if (this.dead) {
      scrap(frame); // Deno would leave open what was to be transferred
    } else {
      try {
        postMessage.call(this.raw, frame, transfer);
      } catch {
        replaceLost(frame, transfer);
        postMessage.call(this.raw, frame, transfer);
      }
    }
    this.posted++;
  }

  /** Whether the other end is here, and nothing is on the way between the two: it hears of `close` at once. */
  get idle(): boolean {
    const { twin, watch, posted } = this;
    return twin !== undefined && (twin.started || !twin.open) &&
      twin.watch.received === posted && watch.received === twin.posted;
  }

  /** Keeps what is posted from now on, until `utter`. */
  keep(): void {
    this.#unposted ??= [];
  }

  #keep(frame: unknown, transfer: Transferable[]): void {
    const [kept, moved] = structuredClone([frame, transfer], { transfer }) as [
      unknown,
      Transferable[],
    ];
    this.#unposted!.push(() => this.post(kept, moved));
  }

  /** Posts what was kept. */
  utter(): void {
    const unposted = this.#unposted;
    this.#unposted = undefined;
    for (const post of unposted ?? []) post();
  }

  /** Takes what came in, where closing would not close the endpoints in it. */
  unread(): unknown[] {
    return this.raw instanceof LocalPort ? this.raw.take() : [];
  }

  /**
   * Closes the port. What was posted still arrives; what came in and was not
   * handled is dropped, and the ports in it are closed.
   */
  close(): void {
    if (!this.#deafen()) return;
    const { twin } = this;
    if (this.idle) {
      closeMethod.call(this.raw);
      twin!.lost();
    } else {
      if (twin) twin.twin = undefined; // it has to be told, and to answer
      scrapPort(this.raw, this.dead);
    }
  }

  /**
   * Node refuses to transfer a port whose other side is gone. Receives what is
   * queued in a port that is about to travel, and tells when it cannot. Elsewhere
   * a port that was started, and is not posted in this turn, would dispatch to
   * nobody what comes in: moved within the thread, with all that is queued in
   * it, it is a port that was never started.
   */
  readyToTravel(listener: PortListener): void {
    if (!transferWorks() || dressing()) return;
    this.#listener = listener;
    if (!this.#receiveQueued()) return;
    try {
      this.raw = moved(this.raw);
    } catch {
      listener.gone(this);
    }
  }

  /** Stops listening and gives the port away to be transferred. */
  give(): MessagePort {
    if (this.open && watchesPeers()) {
      this.utter();
      if (this.twin?.open) introduce(this.twin);
      if (this.watch.named) this.post([HELLO]);
      if (travelLoses()) depart();
    }
    if (this.twin) this.twin.twin = undefined;
    this.#deafen();
    return this.raw instanceof LocalPort
      ? this.raw.travel(uniqueName()) as unknown as MessagePort
      : this.raw;
  }

  #deafen(): boolean {
    if (!this.open) return false;
    this.utter();
    this.open = false;
    owned.delete(this.raw);
    dismiss(this);
    if (this.started) {
      // Where closing drops nothing, what is on its way has to be dropped here.
      if (!dressing()) this.raw.removeEventListener("message", this.#onMessage);
      this.raw.removeEventListener("messageerror", this.lost);
    }
    this.raw.removeEventListener("close", this.lost);
    portClosed();
    return true;
  }

  /** Tells the listener, once, that the other side is gone. */
  readonly lost = (): void => {
    if (this.dead || !this.open) return;
    this.dead = true;
    this.#listener?.gone(this);
  };

  readonly #onMessage = (event: MessageEvent): void => {
    let pause = this.#receive(event.data);
    const take = taker();
    if (take === undefined) return;
    // What is queued behind: to take it costs half of what its event would.
    for (let i = 0; i < MOST_TAKEN && this.open && !pause; i++) {
      let taken: { message: unknown } | undefined;
      try {
        taken = take(this.raw);
      } catch {
        return this.lost(); // as `messageerror`
      }
      if (taken === undefined) return;
      pause = this.#receive(taken.message);
    }
  };

  #receive(data: unknown): boolean | void {
    if (!this.open) scrap(data);
    else if (Array.isArray(data) && data[0] === HELLO) {
      greeted(this, data);
    } else {
      this.watch.received++;
      const text = typeof data === "string";
      const frame = text ? parsed(data) : data;
      if (isFrame(frame)) return this.#listener!.frame(this, frame, text);
    }
  }
}

/** Two entangled ports. */
export function openChannel(): [OpenPort, OpenPort] {
  const { port1, port2 } = channel();
  const [one, two] = [new OpenPort(port1), new OpenPort(port2)];
  [one.twin, two.twin] = [two, one];
  return [one, two];
}

/** Closes a port; where that drops nothing (Deno), also what is queued in it. */
function scrapPort(raw: MessagePort, dead = false): void {
  if (dressing()) { for (const message of queuedIn(raw)) scrap(message); }
  if (watchesPeers()) linger(raw, scrap, dead);
  else closeMethod.call(raw);
}

/** Closes the ports in a message that nobody will read. */
export function scrap(message: unknown): void {
  if (typeof message !== "object") return; // text, as most are
  const ports = new Set<MessagePort>();
  for (const [, , value] of fieldsOf([message])) {
    if (isTransferred(value)) ports.add(value);
  }
  for (const port of ports) if (!owned.has(port)) scrapPort(port);
}

/** The fields of the plain objects and arrays that a message is made of. */
function* fieldsOf(
  message: unknown,
): Generator<[holder: object, key: string, value: unknown]> {
  const found = new Set<unknown>([message]);
  for (const holder of found) { // grows as it goes
    if (typeof holder !== "object" || holder === null) continue;
    if (!Array.isArray(holder) && !isPlain(holder)) continue;
    for (const [key, value] of Object.entries(holder)) {
      yield [holder, key, value];
      found.add(value);
    }
  }
}

/** Takes over a port that came in with a message, and what was known of its other side. */
export function adopt(raw: MessagePort, peer?: unknown): OpenPort {
  if (owned.has(raw)) throw new TypeError("Cannot unpack: a port is in use");
  if (isTravelling(raw)) raw = arrived(raw) as unknown as MessagePort;
  owned.add(raw);
  if (dressing() && !Object.hasOwn(raw, "on")) raw = throughThread(raw);
  let gone = false;
  if (closesOnce()) {
    try {
      raw = moved(raw);
    } catch (error) {
      // Then that was said while it lay in a message; anything else says nothing of the port.
      gone = (error as Error).name === "DataCloneError";
    }
  }
  const port = new OpenPort(raw);
  port.dead = gone;
  port.watch.peer = isPeer(peer) ? peer : undefined;
  if (travelLoses()) depart(); // until it has arrived, it keeps what is posted
  if (watchesPeers()) introduce(port);
  return port;
}

/** A port as `receiveMessageOnPort` hands it out. */
function throughThread(raw: MessagePort): MessagePort {
  return withChannel((port1, port2) => {
    port1.postMessage(raw, [raw]);
    return queuedIn(port2).next().value as MessagePort;
  });
}

/**
 * Node refuses to transfer a port whose other side is gone and that has
 * nothing unread, as may come to pass while a message waits to be passed on.
 *
 * @returns The message with ports that can be transferred.
 */
export function movable<T>(message: T, ports: Transferable[]): T {
  if (!closesOnce()) return message;
  try {
    // None is lost; so they move wherever in it they are.
    return structuredClone(message, { transfer: ports as MessagePort[] });
  } catch {
    replaceLost(message, ports);
    return message;
  }
}

/** Puts another in the place of each port that is lost, whose other side goes later. */
export function replaceLost(message: unknown, ports: Transferable[]): void {
  if (!closesOnce()) return;
  const replaced = new Map<unknown, MessagePort>();
  ports.forEach((raw, i) => {
    if (isTransferred(raw)) replaced.set(raw, ports[i] = replacement(raw));
  });
  for (const [holder, key, value] of fieldsOf(message)) {
    const port = replaced.get(value);
    if (port) (holder as Record<string, unknown>)[key] = port;
  }
}

/** A port in the place of one; it can be transferred. */
function replacement(raw: MessagePort): MessagePort {
  try {
    return moved(raw);
  } catch {
    const { port1, port2 } = channel();
    turn().then(() => closeMethod.call(port1)); // by then it has been posted
    return port2;
  }
}
