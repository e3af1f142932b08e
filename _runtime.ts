/**
 * What this runtime is and can, looked up by feature, each once: threads and
 * their names, what keeps a thread alive, macrotasks, and how ports behave.
 * Nothing here runs at import that a runtime could refuse.
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

import { localChannel, LocalPort } from "./_local_channel.ts";

interface NodeLike {
  process?: { getBuiltinModule?: (name: string) => unknown };
  setImmediate?: (run: () => void) => unknown;
  Deno?: { unrefTimer?: (timer: number) => void };
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

/** A module of Node; `undefined`: there is none. */
export function builtin<T>(name: string): T | undefined {
  try {
    return host.process?.getBuiltinModule?.(name) as T | undefined;
  } catch {
    return undefined;
  }
}

/** Does nothing. */
export const ignore: () => void = () => {};

/** An answer that is found at the first call, and stays. */
export function once<T>(find: () => T): () => T {
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

/** Of Node, and of what is like it: no browser, no edge runtime. */
export const workerThreads: WorkerThreads | undefined = builtin<WorkerThreads>(
  "node:worker_threads",
);

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

let serial = 0;

/** A name of this thread that no other thread has. */
export const threadName: () => string = once(() => {
  const words = new Uint32Array(4).map(() => Math.random() * 2 ** 32);
  try {
    // workerd refuses randomness outside of a request, where a queue may be made.
    (globalThis as { crypto?: Crypto }).crypto?.getRandomValues(words);
  } catch {
    // It has one thread only: what is there will do.
  }
  return words.join(".");
});

/** A name that is unique among all threads. */
export function uniqueName(): string {
  return `${threadName()}.${++serial}`;
}

/** Shared memory for `words` integers; `undefined` where there is none. */
export function sharedWords(
  words: number,
): Int32Array<SharedArrayBuffer> | undefined {
  // Without a transfer list there is no second thread to share with.
  return !force.noSharedMemory && typeof SharedArrayBuffer === "function" &&
      transferWorks()
    ? new Int32Array(new SharedArrayBuffer(words * 4))
    : undefined;
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

/** A port has been opened: as long as one is, the timer is kept. */
export function portOpened(): void {
  openPorts++;
}

/** One has been closed, or given away. */
export function portClosed(): void {
  if (--openPorts === 0 && holds === 0) letGo();
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

type PostMessage = (
  this: MessagePort,
  message: unknown,
  transfer?: Transferable[],
) => void;

// Of the prototype: Deno's dressed instances override them.
/** The platform's `postMessage`. */
export let postMessage: PostMessage = prototype?.postMessage as PostMessage;
/** The platform's `close`. */
export let closeMethod: (this: MessagePort) => void = prototype
  ?.close as () => void;

interface Channel {
  port1: MessagePort;
  port2: MessagePort;
}

/** Two entangled ports. */
export function channel(): Channel {
  // workerd has one, and forgets what is queued in it when it is closed.
  return transferWorks() ? new MessageChannel() : localChannel();
}

/** Uses a channel, and closes it. */
export function withChannel<T>(
  use: (port1: MessagePort, port2: MessagePort) => T,
  { port1, port2 }: Channel = channel(),
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

/** Takes out what is queued in a port, where that can be done. */
export function* queuedIn(raw: MessagePort): Generator<unknown> {
  const receive = workerThreads?.receiveMessageOnPort;
  for (let got; (got = receive?.(raw));) yield got.message;
}

/** A port that was never started, with all that is queued in the given one; throws when that cannot travel. */
export function moved(raw: MessagePort): MessagePort {
  return structuredClone(raw, { transfer: [raw] });
}

// --- What ports do, and do not ------------------------------------------------

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

/** Whether the runtime dresses ports (Deno). */
export const dressing: () => boolean = once(() =>
  workerThreads?.receiveMessageOnPort !== undefined &&
  withChannel((port) => Object.hasOwn(port, "on"))
);

/** Whether it is said once only that a port's other side is gone, also to a port that nobody holds yet, which cannot be transferred from then on (Node). */
export const closesOnce: () => boolean = once(() =>
  workerThreads?.receiveMessageOnPort !== undefined && transferWorks() &&
  !dressing()
);

/** Whether a port reports by an event that its other side is gone. */
export const closeEvents: () => boolean = once(() =>
  // With one thread nothing dies alone, and workerd's event overtakes data.
  (workerThreads !== undefined ||
    (prototype !== undefined && "onclose" in prototype)) &&
  transferWorks()
);

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

// Node, which alone has no web Worker, clones large buffers at half the price of a copy in fresh memory.
const wholeCloned = typeof Worker === "undefined" ? 8 * MIB : 8 * KIB;

/** What was measured to be fastest here: see docs/design.md. */
export const bytesLimits: BytesLimits = workerThreads
  ? { cloned: 8 * KIB, wholeCloned, recycled: 16 * KIB }
  : { cloned: 2 * KIB, wholeCloned: 2 * KIB, recycled: 2 * KIB };
