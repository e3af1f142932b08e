// Real workers, one object for all runtimes.
//
// A worker that imports `_worker.ts` says "ready" once it listens; until then what is posted to it waits
// here, because runtimes may drop it (Node does not). Before it exits through `exit()` it says so.

import { builtin, type Locks, locks, runtime } from "./_runtime.ts";
import { pack, unpack } from "./_module.ts";

/** What the harness says to itself between threads. */
export type Signal =
  | { harness: "ready" }
  | { harness: "exit" }
  /** What a task returned, and the calls that had not settled then. */
  | { harness: "result"; packed: unknown; pending: string[] };

function isSignal(data: unknown): data is Signal {
  return typeof data === "object" && data !== null && "harness" in data;
}

/** Options of {@linkcode spawn}. */
export interface SpawnOptions {
  /** Post at once, without waiting for "ready": for workers that do not import `_worker.ts`. */
  raw?: boolean;
}

/** A worker. */
export interface Spawned {
  /** Posts, or keeps the message until the worker listens. */
  postMessage(message: unknown, transfer?: Transferable[]): void;
  /** What the worker posts; messages that came before a handler was set are kept for it. */
  onmessage: ((event: { data: unknown }) => void) | null;
  /** Ends the worker. */
  terminate(): Promise<void>;
  /** Resolves when the worker listens. */
  readonly ready: Promise<void>;
  /** Resolves when the worker has ended, however it did. */
  readonly exited: Promise<void>;
  /** Resolves to the first uncaught error of the worker; never rejects. */
  readonly error: Promise<unknown>;
  /** The next message, in order: an alternative to `onmessage`. */
  next(): Promise<unknown>;
}

interface Raw {
  post(message: unknown, transfer: Transferable[]): void;
  terminate(): Promise<unknown> | void;
}

interface Events {
  message(data: unknown): void;
  error(error: unknown): void;
  exit(): void;
}

interface NodeWorker {
  on(type: string, listener: (value: unknown) => void): void;
  postMessage(message: unknown, transfer: Transferable[]): void;
  terminate(): Promise<number>;
}

interface NodeThreads {
  Worker: new (url: string | URL) => NodeWorker;
}

function startNode(url: string | URL, events: Events): Raw {
  const { Worker } = builtin<NodeThreads>("node:worker_threads");
  const worker = new Worker(new URL(url));
  worker.on("message", (data) => events.message(data));
  worker.on("error", (error) => events.error(error));
  worker.on("exit", () => events.exit());
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    terminate: () => worker.terminate(),
  };
}

function startWeb(url: string | URL, name: string, events: Events): Raw {
  const worker = new Worker(url, { type: "module", name });
  worker.addEventListener("message", (event) => events.message(event.data));
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    const { error, message } = event as ErrorEvent;
    events.error(error ?? new Error(message ?? "The worker failed"));
    // Everywhere but in browsers an uncaught error ends the worker.
    if (runtime === "deno") events.exit();
  });
  if (runtime === "bun") worker.addEventListener("close", () => events.exit());
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    terminate: () => worker.terminate(),
  };
}

const live = new Set<Spawned>();

/** The workers that have not ended. */
export function liveWorkers(): Spawned[] {
  return [...live];
}

const pendingInEnded: string[] = [];

/** The calls in workers that had not settled when the task there was done; says so once. */
export function callsOfEnded(): string[] {
  return pendingInEnded.splice(0);
}

/** Resolves once the worker that holds this lock has ended. */
async function released(
  locks: Locks,
  name: string,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await locks.request(name, { signal }, () => {});
    return true;
  } catch {
    return false;
  }
}

class SpawnedWorker implements Spawned {
  readonly #raw: Raw;
  readonly #lock = `harness-${crypto.randomUUID()}`;
  readonly #watch = new AbortController();
  #waiting: [unknown, Transferable[]][] | null = [];
  #inbox: unknown[] = [];
  #handler: ((event: { data: unknown }) => void) | null = null;
  #takers: PromiseWithResolvers<unknown>[] = [];
  readonly #ready = Promise.withResolvers<void>();
  readonly #exited = Promise.withResolvers<void>();
  readonly #error = Promise.withResolvers<unknown>();
  readonly #result = Promise.withResolvers<unknown>();

  constructor(url: string | URL, options: SpawnOptions) {
    this.#result.promise.catch(() => {});
    const events: Events = {
      message: (data) => this.#receive(data),
      error: (error) => this.#error.resolve(error),
      exit: () => this.#end(),
    };
    this.#raw = runtime === "node"
      ? startNode(url, events)
      : startWeb(url, this.#lock, events);
    live.add(this);
    // Node keeps what is posted, and refuses ports whose other side has gone while they wait.
    if (options.raw) this.#open();
    else if (runtime === "node") this.#flush();
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  get exited(): Promise<void> {
    return this.#exited.promise;
  }

  get error(): Promise<unknown> {
    return this.#error.promise;
  }

  /** What a task posted when it was done. */
  get result(): Promise<unknown> {
    return this.#result.promise;
  }

  get onmessage(): ((event: { data: unknown }) => void) | null {
    return this.#handler;
  }

  set onmessage(handler: ((event: { data: unknown }) => void) | null) {
    this.#handler = handler;
    while (this.#handler && this.#inbox.length > 0) {
      this.#handler({ data: this.#inbox.shift() });
    }
  }

  next(): Promise<unknown> {
    if (this.#inbox.length > 0) return Promise.resolve(this.#inbox.shift());
    const taker = Promise.withResolvers<unknown>();
    // Nobody has to await it when the worker ends.
    taker.promise.catch(() => {});
    if (live.has(this)) this.#takers.push(taker);
    else taker.reject(new Error("No next message: the worker has ended"));
    return taker.promise;
  }

  postMessage(message: unknown, transfer: Transferable[] = []): void {
    if (this.#waiting) this.#waiting.push([message, transfer]);
    else this.#raw.post(message, transfer);
  }

  async terminate(): Promise<void> {
    if (!live.has(this)) return;
    await this.#raw.terminate();
    if (runtime === "node" || runtime === "bun") {
      await this.#endsWithin(2000);
    } else if (this.#waiting === null) {
      // A worker in a synchronous loop may run on: do not wait for its lock for long.
      await this.#endsWithin(100);
    }
    this.#end();
  }

  async #endsWithin(ms: number): Promise<void> {
    const timeout = Promise.withResolvers<void>();
    const timer = setTimeout(timeout.resolve, ms);
    await Promise.race([this.exited, timeout.promise]);
    clearTimeout(timer);
  }

  #receive(data: unknown): void {
    if (!isSignal(data)) return this.#deliver(data);
    if (data.harness === "ready") {
      try {
        this.#open();
      } catch (error) {
        this.#error.resolve(error); // of the test that waits for it, and no other
      }
      this.#watchLock();
    } else if (data.harness === "result") {
      for (const name of data.pending) {
        pendingInEnded.push(`${name} in a worker`);
      }
      this.#result.resolve(data.packed);
    } else if (runtime === "browser" && !locks) {
      this.#end();
    }
  }

  #deliver(data: unknown): void {
    const taker = this.#takers.shift();
    if (taker) taker.resolve(data);
    else if (this.#handler) this.#handler({ data });
    else this.#inbox.push(data);
  }

  /** Where no event tells that a worker has ended, the release of its lock does. */
  async #watchLock(): Promise<void> {
    if (locks && await released(locks, this.#lock, this.#watch.signal)) {
      this.#end();
    }
  }

  #open(): void {
    this.#flush();
    this.#ready.resolve();
  }

  #flush(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const [message, transfer] of waiting) {
      this.#raw.post(message, transfer);
    }
  }

  #end(): void {
    if (!live.delete(this)) return;
    // Deno keeps its receiving side open after the worker has closed itself.
    if (runtime === "deno") this.#raw.terminate();
    this.#watch.abort();
    this.#exited.resolve();
    const ended = new Error("The worker has ended");
    this.#result.reject(ended);
    for (const taker of this.#takers.splice(0)) taker.reject(ended);
  }
}

/** Starts a real worker; end it with `terminate()`, or let it end itself, before the test returns. */
export function spawn(
  url: string | URL,
  options: SpawnOptions = {},
): Spawned {
  return new SpawnedWorker(url, options);
}

/** Options of {@linkcode spawnTask}. */
export interface TaskOptions {
  /** The module whose exports are the tasks; `workers/tasks.ts` unless told. */
  module?: URL;
  /** The worker stays after the task is done, until it is terminated. */
  linger?: boolean;
  /** Milliseconds that calls the task has not awaited get to settle, before they are reported. */
  patience?: number;
}

/** A task in a worker. */
export interface Task<T> {
  /** What the task returned, or an error with the name and message of what it threw. */
  readonly result: Promise<T>;
  /** Where it runs. */
  readonly worker: Spawned;
}

/** What a task worker receives first, packed. */
export interface TaskMessage {
  module: string;
  name: string;
  args: unknown;
  linger: boolean;
  patience: number;
}

/** What it posts back, packed. */
export type TaskResult =
  | { ok: unknown }
  | { error: { name: string; message: string } };

async function outcome<T>(worker: SpawnedWorker): Promise<T> {
  const uncaught = worker.error.then((error) => {
    throw error;
  });
  const packed = await Promise.race([worker.result, uncaught]);
  const result = unpack<TaskResult>(packed);
  if ("ok" in result) return result.ok as T;
  const error = new Error(result.error.message);
  error.name = result.error.name;
  throw error;
}

/** Runs an exported function of a tasks module in a new worker, which ends when it is done. */
export function spawnTask<T = unknown>(
  name: string,
  args: unknown = undefined,
  options: TaskOptions = {},
): Task<T> {
  const tasks = new URL("./workers/tasks.ts", import.meta.url);
  const message: TaskMessage = {
    module: (options.module ?? tasks).href,
    name,
    args,
    linger: options.linger ?? false,
    patience: options.patience ?? 10_000,
  };
  const packed = pack(message);
  const runner = new URL("./workers/task_runner.ts", import.meta.url);
  const worker = new SpawnedWorker(runner, {});
  worker.postMessage(...packed);
  const result = outcome<T>(worker);
  // A test may look at it later, or not at all.
  result.catch(() => {});
  return { result, worker };
}
