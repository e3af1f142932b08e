/**
 * All that differs between runtimes: ports and how they start, stop, travel
 * and report a dead peer; what keeps a thread alive; macrotasks; thread names.
 * Looked up by feature, each once. Nothing here runs at import that a runtime
 * could refuse.
 *
 * Facts behind it:
 * - Deno reports a dead peer by a `close` event only on ports that
 *   `node:worker_threads` has dressed; loading that module (no import, no
 *   permission) dresses local ports, `receiveMessageOnPort` dresses received
 *   ones. A dressed port also stays unref'd when messages arrive.
 * - Deno's dressed `close()` starts the other end of a local channel, which
 *   would lose what is queued there: the prototype's methods are used instead.
 * - Deno cannot transfer a port that was started, everyone else can.
 * - Browsers have no `close` event: Web Locks tell of a thread that ended.
 * - Firefox loses messages of ports that are transferred: the one that was
 *   about to be dispatched, and all that are unread once the other side has
 *   closed; also all, when the thread ends within some exchanges with the
 *   process that keeps them.
 */

import { BYTES, type Frame, isFrame } from "./_wire.ts";
import {
  arrived,
  isTravelling,
  localChannel,
  LocalPort,
} from "./_local_channel.ts";

interface NodeLike {
  process?: { getBuiltinModule?: (name: string) => unknown };
  setImmediate?: (run: () => void) => unknown;
  navigator?: { locks?: Locks };
  WorkerGlobalScope?: unknown;
  Deno?: { unrefTimer?: (timer: number) => void };
}
interface Locks {
  request(name: string, granted: () => unknown): Promise<unknown>;
  request(
    name: string,
    options: { signal: AbortSignal },
    granted: () => unknown,
  ): Promise<unknown>;
}
interface WorkerThreads {
  MessagePort?: typeof MessagePort;
  receiveMessageOnPort?: (
    port: MessagePort,
  ) => { message: unknown } | undefined;
}
interface UtilTypes {
  types?: { isProxy?: (value: unknown) => boolean };
}
type Refable = MessagePort & { unref?: () => void };

/**
 * What can be transferred here, by the types of this platform: not each has a
 * global type of that name.
 */
export type Transferable = NonNullable<
  Parameters<MessagePort["postMessage"]>[1]
> extends infer Given ? Given extends readonly (infer Part)[] ? Part
  : Given extends { transfer?: (infer Part)[] } ? Part
  : never
  : never;

const host = globalThis as unknown as NodeLike;

function builtin<T>(name: string): T | undefined {
  try {
    return host.process?.getBuiltinModule?.(name) as T | undefined;
  } catch {
    return undefined;
  }
}

const ignore = () => {};

/** An answer that is found at the first call, and stays. */
function once<T>(find: () => T): () => T {
  let found: { answer: T } | undefined;
  return () => (found ??= { answer: find() }).answer;
}

/** Whether it can be done. */
function works(act: () => void): boolean {
  try {
    act();
    return true;
  } catch {
    return false;
  }
}

const workerThreads = builtin<WorkerThreads>("node:worker_threads");

const tell = builtin<UtilTypes>("node:util")?.types?.isProxy;

/** Whether the runtime can tell proxies. */
export const tellsProxies: boolean = tell !== undefined;

/** Whether an object is a Proxy; never true where the runtime cannot tell. */
export const isProxy: (value: unknown) => boolean = tell ?? (() => false);

/** Settings that tests change to reach the paths of other runtimes. */
export const force: { noSharedMemory: boolean; replug: boolean } = {
  noSharedMemory: false,
  replug: false,
};

// --- Threads and names -----------------------------------------------------

let thread = "";
let serial = 0;

/** A name of this thread that no other thread has. */
export function threadName(): string {
  if (thread === "") {
    const words = new Uint32Array(4).map(() => Math.random() * 2 ** 32);
    try {
      // workerd refuses randomness outside of a request, where a queue may be made.
      (globalThis as { crypto?: Crypto }).crypto?.getRandomValues(words);
    } catch {
      // It has one thread only: what is there will do.
    }
    thread = words.join(".");
  }
  return thread;
}

/** A name that is unique among all threads. */
export function uniqueName(): string {
  return `${threadName()}.${++serial}`;
}

/** Shared memory for `words` integers; `undefined` where there is none. */
export function sharedWords(
  words: number,
): Int32Array<SharedArrayBuffer> | undefined {
  if (force.noSharedMemory || typeof SharedArrayBuffer !== "function") {
    return undefined;
  }
  // Without a transfer list there is no second thread to share with.
  if (!transferWorks()) return undefined;
  return new Int32Array(new SharedArrayBuffer(words * 4));
}

// --- Keeping the thread alive ----------------------------------------------

// Ports are always unref'd; one timer, far away, keeps the thread alive while
// any call waits. It is ref'd and unref'd rather than made and cleared: a near
// timer would cost each wait for the next event more than a call costs.
// Browsers and edge runtimes end no thread because it has nothing to do.
interface Keeper {
  ref(): void;
  unref(): void;
}
interface Timers {
  setInterval(run: () => void, ms: number): Keeper;
  clearInterval(timer: Keeper | undefined): void;
}
const timers = builtin<Timers>("node:timers");
const FOREVER = 2 ** 31 - 1;
let holds = 0;
let openPorts = 0;
let keeper: Keeper | undefined;

/** Keeps this thread alive until the matching {@linkcode release}. */
export function hold(): void {
  if (holds++ > 0) return;
  // Not in an edge runtime: the timer of one of its requests is out of reach
  // for the next.
  if (keeper !== undefined) keeper.ref();
  else if (transferWorks()) keeper = timers?.setInterval(ignore, FOREVER);
}

/** Takes one {@linkcode hold} back. */
export function release(): void {
  if (--holds > 0) return;
  if (openPorts === 0) letGo();
  else keeper?.unref();
}

function letGo(): void {
  timers?.clearInterval(keeper);
  keeper = undefined;
}

/** Of the 10,000 timers of a request of workerd. */
const MOST_KEPT = 4096;
let kept = 0;

/**
 * Where requests share a thread (workerd), one that waits for nothing but
 * others is taken to hang, and ended: a timer of its own keeps it, until the
 * function is called that comes back.
 */
export function keepRequest(): (() => void) | undefined {
  if (transferWorks() || kept === MOST_KEPT) return undefined;
  let timer: ReturnType<typeof setTimeout>;
  try {
    timer = setTimeout(ignore, FOREVER);
  } catch {
    return undefined; // Not in a request.
  }
  kept++;
  const { promise, resolve } = Promise.withResolvers<void>();
  promise.then(() => clearTimeout(timer)); // in the request that it belongs to
  return () => {
    kept--;
    resolve();
  };
}

/** How many calls keep this thread alive now. */
export function liveHolds(): number {
  return holds;
}

/** How many ports this module has open in this thread. */
export function livePorts(): number {
  return openPorts;
}

/** Runs `run` after `ms` milliseconds, also beyond what a timer can count. Does not keep the thread alive: a {@linkcode hold} does. */
export function after(ms: number, run: () => void): () => void {
  let timer: ReturnType<typeof setTimeout>;
  const arm = (left: number) => {
    timer = left > FOREVER
      ? setTimeout(() => arm(left - FOREVER), FOREVER)
      : setTimeout(run, left);
    if (typeof timer === "number") host.Deno?.unrefTimer?.(timer);
    else (timer as Partial<Keeper>).unref?.();
  };
  arm(ms);
  return () => clearTimeout(timer);
}

// A `close` event, or a message that another thread posted before, may take
// up to three rounds of the event loop to be dispatched after a port starts.
const SETTLING_TURNS = 3;
// Deno's scheduler looks at what other threads have woken in every 31st round
// only, as long as this thread has something to do.
const SETTLING_TURNS_DRESSED = 31 + 5;

/** Lets the event loop go round once. */
export function turn(): Promise<void> {
  if (host.setImmediate) return new Promise((done) => host.setImmediate!(done));
  // A local port delivers within the turn.
  return transferWorks() ? echo() : new Promise((done) => setTimeout(done));
}

function echo(): Promise<void> {
  return new Promise((done) => {
    const { port1, port2 } = channel();
    port1.onmessage = () => {
      closeMethod!.call(port1);
      closeMethod!.call(port2);
      done();
    };
    port2.postMessage(0);
  });
}

/** Waits until what has been delivered to this thread is dispatched, or `until`. */
export async function settled(until: () => boolean): Promise<void> {
  const turns = dressing() ? SETTLING_TURNS_DRESSED : SETTLING_TURNS;
  for (let i = 0; i < turns && !until(); i++) await turn();
}

// --- Ports -----------------------------------------------------------------

// Some test environments (happy-dom) put a class of their own in the place of the global one.
const Port = workerThreads?.MessagePort ?? globalThis.MessagePort as
  | typeof MessagePort
  | undefined;
const prototype = Port?.prototype;

function channel(): { port1: MessagePort; port2: MessagePort } {
  // workerd has one, and forgets what is queued in it when it is closed.
  return transferWorks() ? new MessageChannel() : localChannel();
}

/** Uses a channel, and closes it. */
function withChannel<T>(
  use: (port1: MessagePort, port2: MessagePort) => T,
  { port1, port2 } = channel(),
): T {
  try {
    return use(port1, port2);
  } finally {
    closeMethod!.call(port1);
    closeMethod!.call(port2);
  }
}

/** Whether a field of a message is a port that can be transferred. */
export function isTransferred(field: unknown): field is MessagePort {
  return Port !== undefined && field instanceof Port;
}

/** Whether a field of a message is a port, or, with a single thread, the name of one. */
export function isPort(field: unknown): field is MessagePort {
  return isTransferred(field) || isTravelling(field);
}

type PostMessage = (
  this: MessagePort,
  message: unknown,
  transfer?: Transferable[],
) => void;

// The prototype's own methods: Deno's dressed instances override them.
let postMessage = prototype?.postMessage as PostMessage | undefined;
let closeMethod = prototype?.close;

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
  dressing() || !transferWorks()
    ? undefined
    : workerThreads?.receiveMessageOnPort
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
    user: false,
    named: false,
    ended: false,
    peer: undefined,
  };

  constructor(raw: MessagePort) {
    this.raw = raw;
    owned.add(raw);
    openPorts++;
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
    if (this.dead) return queueMicrotask(this.#bequeath);
    const { raw } = this;
    raw.addEventListener("message", this.#onMessage);
    raw.addEventListener("messageerror", this.lost);
    if (closeEvents()) raw.addEventListener("close", this.lost);
    raw.start();
    (raw as Refable).unref?.(); // after the listeners: adding one refs again
    if (this.watch.peer) watchPeer(this, this.watch.peer);
  }

  /** The other side had gone before the start: no event will tell of what it sent. */
  readonly #bequeath = (): void => {
    if (this.#receiveQueued()) this.#listener!.gone(this);
  };

  /** Receives what is queued; returns whether the port is still open. */
  #receiveQueued(): boolean {
    if (!this.open) return false;
    try {
      for (const message of queuedIn(this.raw)) {
        this.#receive(message);
        if (!this.open) return false;
      }
      return true;
    } catch { // as `messageerror`
      this.dead = true;
      this.#listener!.gone(this);
      return false;
    }
  }

  /** Posts at once; throws `DataCloneError` when the value cannot be cloned. */
  post(frame: unknown, transfer?: Transferable[]): void {
    if (this.#unposted) return this.#keep(frame, transfer ?? []);
    if (transfer === undefined || transfer.length === 0) {
      postMessage!.call(this.raw, frame);
    } else if (this.dead) {
      scrap(frame); // Deno would leave open what was to be transferred
    } else {
      try {
        postMessage!.call(this.raw, frame, transfer);
      } catch {
        replaceLost(frame, transfer);
        postMessage!.call(this.raw, frame, transfer);
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
      closeMethod!.call(this.raw);
      twin!.lost();
    } else {
      if (twin) twin.twin = undefined; // it has to be told, and to answer
      scrapPort(this.raw);
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
    openPorts--;
    dismiss(this);
    if (this.started) {
      // Where closing drops nothing, what is on its way has to be dropped here.
      if (!dressing()) this.raw.removeEventListener("message", this.#onMessage);
      this.raw.removeEventListener("messageerror", this.lost);
    }
    this.raw.removeEventListener("close", this.lost);
    if (openPorts === 0 && holds === 0) letGo();
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

type Latin1 = (this: Uint8Array, start: number, end: number) => string;
const latin1 = builtin<{ Buffer?: { prototype: { latin1Slice?: Latin1 } } }>(
  "node:buffer",
)?.Buffer?.prototype.latin1Slice;
const MOST_SPELLED = 128;
// The tag of the frame, byte by byte; behind it, when one is spelled, the bytes.
const TAG = [BYTES >> 24, BYTES >> 16 & 255, BYTES >> 8 & 255, BYTES & 255];
const SPELLED = String.fromCharCode(...TAG);
let spelling: Uint8Array | undefined;

/**
 * A BYTES frame as text, one character a byte: a port carries a short string
 * faster than a buffer. `undefined`: not here, or too long.
 */
export function spell(bytes: Uint8Array): string | undefined {
  const { length } = bytes;
  if (length > MOST_SPELLED || latin1 === undefined) return undefined;
  if (spelling === undefined) {
    spelling = new Uint8Array(4 + MOST_SPELLED);
    spelling.set(TAG);
  }
  spelling.set(bytes, 4);
  return latin1.call(spelling, 0, 4 + length);
}

/** What a text stands for; a foreign one for nothing. */
function parsed(text: string): unknown {
  if (text.startsWith(SPELLED)) {
    const bytes = new Uint8Array(text.length - 4);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i + 4);
    return [BYTES, bytes];
  }
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Up to how many bytes, or from how many on, a message travels how. */
interface BytesLimits {
  /** Up to so many are cloned; more are copied, and the copy is transferred. */
  cloned: number;
  /** The same of a buffer that holds nothing else: its clone is the only copy. */
  wholeCloned: number;
  /** From so many on a buffer whose bytes were copied out is worth sending back. */
  recycled: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;

/** What was measured to be fastest here: see docs/design.md. */
export const bytesLimits: () => BytesLimits = once(() => {
  // Node, which alone has no web Worker, clones large buffers at half the price of a copy in fresh memory.
  const wholeCloned = typeof Worker === "undefined" ? 8 * MIB : 8 * KIB;
  return workerThreads
    ? { cloned: 8 * KIB, wholeCloned, recycled: 16 * KIB }
    : { cloned: 2 * KIB, wholeCloned: 2 * KIB, recycled: 2 * KIB };
});

/** Two entangled ports. */
export function openChannel(): [OpenPort, OpenPort] {
  const { port1, port2 } = channel();
  const [one, two] = [new OpenPort(port1), new OpenPort(port2)];
  [one.twin, two.twin] = [two, one];
  return [one, two];
}

/** Whether the runtime dresses ports (Deno). */
const dressing = once(() =>
  workerThreads?.receiveMessageOnPort !== undefined &&
  withChannel((port) => Object.hasOwn(port, "on"))
);

/** Whether it is said once only that a port's other side is gone, also to a port that nobody holds yet, which cannot be transferred from then on (Node). */
const closesOnce = once(() =>
  workerThreads?.receiveMessageOnPort !== undefined && transferWorks() &&
  !dressing()
);

/** Takes out what is queued in a port, where that can be done. */
function* queuedIn(raw: MessagePort): Generator<unknown> {
  const receive = workerThreads?.receiveMessageOnPort;
  for (let got; (got = receive?.(raw));) yield got.message;
}

/** A port that was never started, with all that is queued in the given one; throws when that cannot travel. */
function moved(raw: MessagePort): MessagePort {
  return structuredClone(raw, { transfer: [raw] });
}

/** Closes a port; where that drops nothing (Deno), also what is queued in it. */
function scrapPort(raw: MessagePort): void {
  if (dressing()) { for (const message of queuedIn(raw)) scrap(message); }
  if (watchesPeers()) linger(raw);
  else closeMethod!.call(raw);
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
    // Of whatever realm: in Jest what comes in is of another.
    const prototype = Object.getPrototypeOf(holder);
    if (
      !Array.isArray(holder) && prototype !== null &&
      Object.getPrototypeOf(prototype) !== null
    ) continue;
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
  if (dressing() && !Object.hasOwn(raw, "on")) {
    owned.add(raw);
    raw = throughThread(raw);
  }
  let gone = false;
  if (closesOnce()) {
    owned.add(raw);
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
 * Node refuses to transfer a port whose other side is gone. Takes what is
 * queued in a port that is about to travel, and returns the port as far as it
 * can still travel. Elsewhere a port that was started, and is not posted in
 * this turn, would dispatch to nobody what comes in: moved within the thread,
 * with all that is queued in it, it is a port that was never started.
 */
export function beforeTravel(
  port: OpenPort,
  take: (data: unknown) => boolean,
): boolean {
  if (!transferWorks() || dressing()) return true;
  try {
    for (const message of queuedIn(port.raw)) {
      const frame = typeof message === "string" ? parsed(message) : message;
      if (!take(frame)) return false;
    }
    port.raw = moved(port.raw);
    return true;
  } catch {
    return false;
  }
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
    turn().then(() => closeMethod!.call(port1)); // by then it has been posted
    return port2;
  }
}

/** Whether ports can be transferred at all: if not, there is one thread only. */
export const transferWorks: () => boolean = once(() => {
  const buffer = new ArrayBuffer(8);
  const can = typeof MessageChannel === "function" &&
    withChannel(
      (port) => works(() => port.postMessage(buffer, [buffer])),
      new MessageChannel(),
    );
  if (!can) {
    postMessage = LocalPort.prototype.postMessage as unknown as PostMessage;
    closeMethod = LocalPort.prototype.close;
  }
  return can;
});

/** Whether a clone that fails still takes away what was to be transferred (Deno). */
export const failedClonesMove: () => boolean = once(() => {
  const buffer = new ArrayBuffer(1);
  // A function cannot be cloned.
  works(() => structuredClone([buffer, isProxy], { transfer: [buffer] }));
  return buffer.byteLength === 0;
});

const startedTravel = once(() =>
  !transferWorks() ||
  withChannel((port) =>
    withChannel((started) => {
      started.start();
      return works(() => port.postMessage(started, [started]));
    })
  )
);

/** Whether a port that has been started can still be transferred, with all that is queued in it. */
export function startedPortsTravel(): boolean {
  return !travelLoses() && startedTravel() && !force.replug;
}

let lossy: boolean | undefined;

/**
 * Whether ports lose messages on their way (Firefox). That shows when one that
 * was transferred still dispatches a message: as long as it is not known, `true`.
 */
export function travelLoses(): boolean {
  if (workerThreads || !transferWorks()) return false;
  if (lossy === undefined) {
    lossy = true;
    const { port1, port2 } = new MessageChannel();
    let straggler = false;
    port1.addEventListener("message", () => straggler = true);
    port1.start();
    port2.postMessage(0);
    const port = moved(port1);
    echo().then(() => {
      lossy = straggler;
      port.close();
    });
  }
  return lossy;
}

// --- Death without a close event: Web Locks --------------------------------
//
// A thread that has a port whose other side may be elsewhere holds a lock that
// only its own end, or its last port, releases. It names itself to the other
// side (HELLO) when the port arrives, or when the other side is about to leave
// this thread; the other side then asks for that lock, and hears of its death
// by getting it. An end that moves takes its name back before it leaves, so
// that nobody watches a thread that it has left:
//
//     mover M of end A          peer B (watches M)         new holder N of A
//  1. HELLO() on the port →     watches nobody
//  2. the port, in a message                           →   adopts it
//  3.                           watches N              ←   HELLO(N), lock held
//
//  M dies after 1: N gets the port. N dies before 2: B is not told (a worker
//  that never unpacked what it was sent). A lock takes some turns to get; until
//  then N posts nothing, its sends and puts do not resolve, and it gives a
//  proof of life: HELLO(N, proof), before 3, with the address of an object that
//  the browser forgets with its thread. B moves as well: its HELLO() and the
//  HELLO of its next holder come after what B posted, whoever reads them; whom
//  it watched goes along with it.
//
// A port that closes says so (HELLO(null)), and listens on until the other side
// has done the same: what it dropped may hold ports, which are to be closed.

/** `[HELLO, name, origin]`: the thread at this side; and a proof: its lock is not held yet; `[HELLO]`: this side moves; `[HELLO, null]`: it is closed. */
const HELLO = "ipc:hello";
const LINGER_MS = 1000;
const LOCK = "@ipc/multiprocessing:";
/** How often a proof of life is looked at. */
const PROOF_MS = 250;
/** A lock can be released before the last messages of its thread are dispatched. */
const QUIET_MS = 20;

/** Where the other side of a port is: the name of the thread, its origin; a proof of life, as long as its lock is not held. */
export type Peer = [name: string, origin: string, proof?: string];

/** Whether a field of a message names a thread. */
function isPeer(field: unknown): field is Peer {
  return Array.isArray(field) && (field.length === 2 || field.length === 3) &&
    field.every((word) => typeof word === "string");
}

interface Watch {
  /** How many frames have come in. */
  received: number;
  /** Counts among the users of this thread's lock. */
  user: boolean;
  /** The other side knows this thread. */
  named: boolean;
  /** The thread at the other side, as far as known. */
  peer: Peer | undefined;
  /** That thread has ended. */
  ended: boolean;
  /** Ends the watch on it. */
  stop?: () => void;
}

/** Whether a port reports by an event that its other side is gone. */
export const closeEvents: () => boolean = once(() =>
  // With one thread nothing dies alone, and workerd's event overtakes data.
  (workerThreads !== undefined ||
    (prototype !== undefined && "onclose" in prototype)) &&
  transferWorks()
);

/** Whether Web Locks tell of dead peers. */
const watchesPeers = once(() =>
  !closeEvents() && transferWorks() && host.navigator?.locks !== undefined
);

/** The lock of this thread: asked for, until it is granted or refused. */
interface Held {
  asked: Promise<void> | undefined;
  granted: boolean;
  /** A proof of life, for those who cannot ask for the lock yet. */
  proof: string | undefined;
  drop: () => void;
}

let held: Held | undefined;
let lockUsers = 0;

function ownLock(): Held {
  if (held) return held;
  const kept = Promise.withResolvers<void>();
  const lock: Held = {
    asked: undefined,
    granted: false,
    proof: undefined,
    drop() {
      kept.resolve();
      if (lock.proof) URL.revokeObjectURL(lock.proof);
    },
  };
  const done = () => {
    lock.asked = undefined;
  };
  const granted = new Promise<void>((granted, refused) => {
    host.navigator!.locks!.request(LOCK + threadName(), () => {
      lock.granted = true;
      granted();
      return kept.promise;
    }).catch(refused); // a page of an opaque origin
  });
  lock.asked = granted.then(done, done);
  return held = lock;
}

/** The address of an object of this thread, where there are any: nobody finds it there when the thread has ended. */
function proofOfLife(): string | undefined {
  // Threads of an opaque origin do not find each other's.
  return origin() !== "null" && typeof URL.createObjectURL === "function"
    ? URL.createObjectURL(new Blob())
    : undefined;
}

function finds(proof: string): Promise<boolean> {
  return fetch(proof).then(() => true, () => false);
}

/** Whether a thread that lives is found; a page may be forbidden to look (CSP), and is told so once. */
const mayLook = once(async () => {
  const own = proofOfLife();
  const may = own !== undefined && await finds(own);
  if (own !== undefined) URL.revokeObjectURL(own);
  return may;
});

/** Looks at a proof of life until the thread says that its lock is held. */
async function doubt(
  port: OpenPort,
  proof: string,
  stopped: AbortSignal,
): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let wake = ignore;
  stopped.addEventListener("abort", () => {
    clearTimeout(timer);
    wake();
  });
  do {
    await new Promise<void>((done) => {
      wake = done;
      timer = setTimeout(done, PROOF_MS);
    });
    if (stopped.aborted || !await mayLook()) return;
  } while (await finds(proof) && !stopped.aborted);
  if (!stopped.aborted) await mourn(port, stopped);
}

/**
 * Says to the other side which thread holds this one, with a proof of life,
 * and again once its lock is held. Until then nothing else is posted: who has
 * read something notices its end.
 */
function introduce(port: OpenPort): void {
  const { watch } = port;
  watch.user = true;
  lockUsers++;
  const lock = ownLock();
  const name = (...proof: string[]) => {
    postMessage!.call(port.raw, [HELLO, threadName(), origin(), ...proof]);
    watch.named = true;
  };
  const greet = () => {
    if (!port.open) return;
    if (lock.granted) name();
    if (departing) departing.then(() => port.utter());
    else port.utter();
  };
  const { asked } = lock;
  if (asked || departing) port.keep();
  if (asked) {
    lock.proof ??= proofOfLife();
    if (lock.proof) name(lock.proof);
    asked.then(greet);
  } else greet();
}

/** A promise of something that is posted: not before others notice the end of this thread, nor before that can lose it. */
export function noticed<T>(posted: Promise<T>): Promise<T> {
  const asked = held?.asked;
  if (!asked && !departing) return posted;
  posted.catch(ignore); // awaited later
  return Promise.all([asked, departing]).then(() => posted);
}

/** Until the end of this thread loses nothing of the ports that leave. */
let departing: Promise<unknown> | undefined;
/** A port comes in (also a clone), then it is stopped: an exchange each, before it gives up what is queued in it. */
const EXCHANGES = 4;

/** A port leaves: it does so in order with what is asked of the keeper of locks. */
function depart(): void {
  const exchange = () => host.navigator!.locks!.request(uniqueName(), ignore);
  let done = Promise.resolve<unknown>(0); // it is posted in this turn
  for (let i = 0; i < EXCHANGES; i++) done = done.then(exchange);
  const gone = departing = done.catch(ignore).then(() => {
    if (departing === gone) departing = undefined;
  });
}

/** The thread at the other side of a port that leaves, as far as known: its greeting may be lost. */
export function peerOf({ watch, twin }: OpenPort): Peer | null {
  if (twin?.open && held?.granted) return [threadName(), origin()];
  return watch.peer ?? null;
}

/** A port is closed or leaves. */
function dismiss({ watch }: OpenPort): void {
  watch.stop?.();
  if (!watch.user) return;
  watch.user = false;
  if (--lockUsers > 0) return;
  held?.drop();
  held = undefined;
}

/** Locks are seen within one origin only. */
function origin(): string {
  return String((globalThis as { origin?: string }).origin);
}

/** A HELLO came in. */
function greeted(port: OpenPort, [, ...peer]: unknown[]): void {
  if (peer[0] === null) return port.lost();
  watchPeer(port, isPeer(peer) ? peer : undefined);
}

/** Watches this thread, and no other. */
function watchPeer(port: OpenPort, peer: Peer | undefined): void {
  const { watch } = port;
  watch.stop?.();
  delete watch.stop;
  watch.peer = peer;
  if (!peer || !watchesPeers()) return;
  const [name, from, proof] = peer;
  if (name === threadName() || from !== origin()) return;
  // Another origin may say anything, and must not choose what is fetched here.
  if (proof !== undefined && !proof.startsWith(`blob:${from}/`)) return;
  const stopped = new AbortController();
  const { signal } = stopped;
  watch.stop = () => stopped.abort();
  if (proof !== undefined) return void doubt(port, proof, signal);
  host.navigator!.locks!.request(LOCK + name, { signal }, () => {
    mourn(port, signal);
  }).catch(() => {});
}

/** Closes a port that nobody reads any more, and the ports in what still comes in. */
function linger(raw: MessagePort): void {
  const hear = ({ data }: MessageEvent) => {
    if (!Array.isArray(data) || data[0] !== HELLO) scrap(data);
    else if (data[1] === null) end();
  };
  const end = () => {
    clearTimeout(timer);
    raw.removeEventListener("message", hear);
    closeMethod!.call(raw);
  };
  const timer = setTimeout(end, LINGER_MS);
  postMessage!.call(raw, [HELLO, null]);
  raw.addEventListener("message", hear);
  raw.start();
}

/** The thread at the other side has ended: so does the port, after all that it posted. */
async function mourn(port: OpenPort, stopped: AbortSignal): Promise<void> {
  const { watch } = port;
  for (let before = -1; before !== watch.received;) {
    before = watch.received;
    await settled(() => stopped.aborted);
    await new Promise((done) => setTimeout(done, QUIET_MS));
    if (stopped.aborted) return;
  }
  watch.ended = true;
  port.lost();
}

// A worker may be busy from its first message on: its lock is asked for before. It goes with its last port, or with the worker.
if (!workerThreads && host.navigator?.locks) {
  try {
    travelLoses(); // known from the next turn on
    if (host.WorkerGlobalScope && watchesPeers()) ownLock();
  } catch {
    // Not here: then at the first use.
  }
}
