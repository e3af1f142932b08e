/**
 * Death without a `close` event: Web Locks.
 *
 * A thread that has a port whose other side may be elsewhere holds a lock that
 * only its own end, or its last port, releases. It names itself to the other
 * side (HELLO) when the port arrives, or when the other side is about to leave
 * this thread; the other side then asks for that lock, and hears of its death
 * by getting it. An end that moves takes its name back before it leaves, so
 * that nobody watches a thread that it has left:
 *
 *     mover M of end A          peer B (watches M)         new holder N of A
 *  1. HELLO() on the port →     watches nobody
 *  2. the port, in a message                           →   adopts it
 *  3.                           watches N              ←   HELLO(N), lock held
 *
 *  M dies after 1: N gets the port. N dies before 2: B is not told (a worker
 *  that never unpacked what it was sent). A lock takes some turns to get; until
 *  then N posts nothing, its sends and puts do not resolve, and it gives a
 *  proof of life: HELLO(N, proof), before 3, with the address of an object that
 *  the browser forgets with its thread. B moves as well: its HELLO() and the
 *  HELLO of its next holder come after what B posted, whoever reads them; whom
 *  it watched goes along with it.
 *
 * A port that closes says so (HELLO(null)), and listens on until the other side
 * has done the same: what it dropped may hold ports, which are to be closed.
 */

import {
  closeEvents,
  closeMethod,
  ignore,
  once,
  postMessage,
  settled,
  threadName,
  transferWorks,
  travelLoses,
  uniqueName,
  workerThreads,
} from "./_runtime.ts";
import { Waiter } from "./_waiters.ts";

/** Web Locks, as far as they are used here. */
export interface Locks {
  request(name: string, granted: () => unknown): Promise<unknown>;
  request(
    name: string,
    options: { signal: AbortSignal },
    granted: () => unknown,
  ): Promise<unknown>;
}
const host = globalThis as unknown as {
  navigator?: { locks?: Locks };
  WorkerGlobalScope?: unknown;
};

/** An open port, as far as it matters here. */
export interface Watched {
  readonly raw: MessagePort;
  readonly open: boolean;
  readonly twin: Watched | undefined;
  readonly watch: Watch;
  /** Keeps what is posted from now on, until `utter`. */
  keep(): void;
  /** Posts what was kept. */
  utter(): void;
  /** The other side is gone. */
  lost(): void;
}

/** `[HELLO, name, origin]`: the thread at this side; and a proof: its lock is not held yet; `[HELLO]`: this side moves; `[HELLO, null]`: it is closed. */
export const HELLO = "ipc:hello";
const LINGER_MS = 1000;
const LOCK = "@ipc/multiprocessing:";
/** How often a proof of life is looked at. */
const PROOF_MS = 250;
/** A lock can be released before the last messages of its thread are dispatched. */
const QUIET_MS = 20;

/** Where the other side of a port is: the name of the thread, its origin; a proof of life, as long as its lock is not held. */
export type Peer = [name: string, origin: string, proof?: string];

/** Whether a field of a message names a thread. */
export function isPeer(field: unknown): field is Peer {
  return Array.isArray(field) && (field.length === 2 || field.length === 3) &&
    field.every((word) => typeof word === "string");
}

export interface Watch {
  /** How many frames have come in. */
  received: number;
  /** The other side knows this thread. */
  named: boolean;
  /** The thread at the other side, as far as known. */
  peer: Peer | undefined;
  /** That thread has ended. */
  ended: boolean;
  /** Ends the watch on it. */
  stop?: () => void;
}

/** Whether Web Locks tell of dead peers. */
export const watchesPeers: () => boolean = once(() =>
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
/** Those that this thread's lock is for. */
const users = new Set<Watch>();

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
  const asked = new Promise<void>((granted, refused) => {
    host.navigator!.locks!.request(LOCK + threadName(), () => {
      lock.granted = true;
      granted();
      return kept.promise;
    }).catch(refused); // a page of an opaque origin
  });
  lock.asked = asked.catch(ignore).then(() => lock.asked = undefined);
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

/** Lets some time pass, but none when it is stopped. */
function pause(ms: number, stopped: AbortSignal): Promise<void> {
  const waiter = new Waiter<void>();
  waiter.arm(ms, stopped, () => waiter.settle());
  return waiter.promise;
}

/** Looks at a proof of life until the thread says that its lock is held. */
async function doubt(
  port: Watched,
  proof: string,
  stopped: AbortSignal,
): Promise<void> {
  do {
    await pause(PROOF_MS, stopped);
    if (stopped.aborted || !await mayLook()) return;
  } while (await finds(proof) && !stopped.aborted);
  if (!stopped.aborted) await mourn(port, stopped);
}

/**
 * Says to the other side which thread holds this one, with a proof of life,
 * and again once its lock is held. Until then nothing else is posted: who has
 * read something notices its end.
 */
export function introduce(port: Watched): void {
  const { watch } = port;
  users.add(watch);
  const lock = ownLock();
  const name = (...proof: string[]) => {
    postMessage.call(port.raw, [HELLO, threadName(), origin(), ...proof]);
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
export function depart(): void {
  const exchange = () => host.navigator!.locks!.request(uniqueName(), ignore);
  let done = Promise.resolve<unknown>(0); // it is posted in this turn
  for (let i = 0; i < EXCHANGES; i++) done = done.then(exchange);
  const gone = departing = done.catch(ignore).then(() => {
    if (departing === gone) departing = undefined;
  });
}

/** The thread at the other side of a port that leaves, as far as known: its greeting may be lost. */
export function peerOf({ watch, twin }: Watched): Peer | null {
  if (twin?.open && held?.granted) return [threadName(), origin()];
  return watch.peer ?? null;
}

/** A port is closed or leaves. */
export function dismiss({ watch }: Watched): void {
  watch.stop?.();
  if (!users.delete(watch) || users.size > 0) return;
  held?.drop();
  held = undefined;
}

/** Locks are seen within one origin only. */
function origin(): string {
  return String((globalThis as { origin?: string }).origin);
}

/** A HELLO came in. */
export function greeted(port: Watched, [, ...peer]: unknown[]): void {
  if (peer[0] === null) return port.lost();
  watchPeer(port, isPeer(peer) ? peer : undefined);
}

/** Watches this thread, and no other. */
export function watchPeer(port: Watched, peer: Peer | undefined): void {
  const { watch } = port;
  watch.stop?.();
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
  }).catch(ignore);
}

/** Closes a port that nobody reads any more, and the ports in what still comes in. */
export function linger(
  raw: MessagePort,
  drop: (message: unknown) => void,
  dead: boolean,
): void {
  const hear = ({ data }: MessageEvent) => {
    if (!Array.isArray(data) || data[0] !== HELLO) drop(data);
    else if (data[1] === null) end();
  };
  const end = () => {
    clearTimeout(timer);
    raw.removeEventListener("message", hear);
    closeMethod.call(raw);
  };
  // Firefox drops with it what is unread at the other side, which, if it lives, may lie in a message for long.
  const timer = travelLoses() && !dead ? undefined : setTimeout(end, LINGER_MS);
  postMessage.call(raw, [HELLO, null]);
  raw.addEventListener("message", hear);
  raw.start();
}

/** The thread at the other side has ended: so does the port, after all that it posted. */
async function mourn(port: Watched, stopped: AbortSignal): Promise<void> {
  const { watch } = port;
  for (let before = -1; before !== watch.received;) {
    before = watch.received;
    await settled(() => stopped.aborted);
    await pause(QUIET_MS, stopped);
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
