/**
 * Queues between threads.
 *
 * @module
 */

import {
  duration,
  integer,
  options as optionsOf,
  partsOf,
  signalOf,
} from "./_arguments.ts";
import type { Client } from "./_client.ts";
import "./connection.ts"; // items may hold connections
import { OSError, ShutDown } from "./errors.ts";
import { register, UNCLONEABLE } from "./_handoff.ts";
import { iterate } from "./_iterate.ts";
import { noticed } from "./_locks.ts";
import { clientFrom, Owner, portsOf } from "./_owner.ts";
import type { Transferable } from "./_runtime.ts";

/** Options of a call that may wait for items or room. */
export interface QueueOptions {
  /** How long to wait at most, in milliseconds; `null`, the default: for ever. */
  timeout?: number | null | undefined;
  /** Ends the wait: the call rejects with the signal's reason, nothing is lost. */
  signal?: AbortSignal | undefined;
}

/** Options of {@linkcode Queue.get} and {@linkcode Queue.get_many}. */
export interface GetOptions extends QueueOptions {
  /** Whether to wait at all; `true` by default. */
  block?: boolean | undefined;
}

/** Options of {@linkcode Queue.put}. */
export interface PutOptions extends GetOptions {
  /**
   * Parts of the item to be moved instead of copied, as for `postMessage`: on
   * the way to the owner. From there to its consumer an item is always copied,
   * and kept until it has arrived: one that dies loses nothing. For large
   * buffers put a pipe's end, and send them through that.
   */
  transfer?: Transferable[] | undefined;
}

let clientOf: (queue: object) => Client | undefined;

// Held weakly by the program, strongly by its port: the handle lives on when
// the queue was dropped, so it has to be told.
const dropped: FinalizationRegistry<Client> | undefined =
  typeof FinalizationRegistry === "function"
    ? new FinalizationRegistry((client) => client.abandon())
    : undefined;

/**
 * A first-in-first-out queue for many producers and many consumers, in any
 * threads. The thread that creates it owns it; handing it over, with `pack` or
 * in a message, makes one more handle.
 *
 * - Items of one handle come out in the order in which they were put.
 * - Each item is returned by exactly one `get`, and is what it was when `put`
 *   was called.
 * - A queue never holds more than `maxsize` items; an item that is on its way
 *   to a waiting `get` still counts.
 * - Waiting gets are served first come, first served, and so are waiting puts.
 * - A `get` that timed out, was aborted, or whose thread ended before it had
 *   its item loses nothing: the next `get` anywhere receives it. Only an item
 *   that holds endpoints, or parts that cannot be cloned, ends with the thread
 *   that it was posted to; its endpoints are closed then.
 * - A `put` that has resolved is visible everywhere, to `get_nowait` as well.
 * - When the owner's thread ends, every call on the other handles rejects with
 *   `EOFError`.
 * - An idle handle does not keep its thread alive, a waiting call does.
 * - A handle that is garbage-collected closes: hold it as long as it is in use.
 *
 * Unlike Python's, a queue can be sent through pipes and queues, an item that
 * cannot be cloned rejects its own `put`, nothing is lost or frozen when a
 * thread is terminated, and `shutdown` works for every handle.
 *
 * @typeParam T What the items are.
 *
 * @example
 * ```ts
 * import { Queue } from "@ipc/multiprocessing";
 *
 * const q = new Queue<string>(3);
 * await q.put("hello");
 * console.assert(await q.get() === "hello");
 * q.close();
 * ```
 */
export class Queue<T = unknown> {
  readonly #client: Client;
  private readonly endpoint: symbol = UNCLONEABLE;

  static {
    clientOf = (value) => #client in value ? value.#client : undefined;
  }

  /**
   * Makes a queue that is owned by this thread.
   *
   * @param maxsize The most items that it holds; 0 or less: any number.
   * @throws {TypeError} `maxsize` is not an integer.
   */
  constructor(maxsize: number = 0) {
    const joinable = this instanceof JoinableQueue;
    if (received) {
      this.#client = received;
      received = undefined;
    } else {
      integer(maxsize, "maxsize", "make a queue");
      this.#client = new Owner(maxsize, joinable).localClient();
    }
    dropped?.register(this, this.#client);
  }

  /** Also after the options are read, which may have getters. */
  #open(what: string): Client {
    if (!this.#client.closed) return this.#client;
    throw new OSError(`Cannot ${what}: queue is closed`);
  }

  /** The most items that the queue holds; 0 or less: any number. */
  get maxsize(): number {
    return this.#client.maxsize;
  }

  /** Whether this handle has been closed. */
  get closed(): boolean {
    return this.#client.closed;
  }

  /**
   * Puts an item, waiting while the queue is full. Endpoints in it, inside
   * plain objects and arrays, go along when there is room: connections move,
   * queues are shared.
   *
   * @param obj Anything that `structuredClone` can clone.
   * @param options `block: false`: does not wait; `timeout`: how long, in
   * milliseconds; `signal`: ends the wait; `transfer`: parts to move, which
   * leave the caller when it begins to wait, also if it then waits in vain
   * (without shared memory, for an answer of the owner: with `block: false` too).
   * @returns Resolves when the item is in the queue.
   * @throws {Full} There was no room in time. The item was not put.
   * @throws {ShutDown} The queue has been shut down, also while waiting.
   * @throws {OSError} This handle is closed, or an endpoint in the item is.
   * @throws {EOFError} The thread that owns the queue has ended.
   * @throws {DOMException} `DataCloneError`: the item cannot be cloned (in
   * Python it would vanish). No place was taken.
   * @throws {TypeError} The timeout is not a number.
   *
   * @example
   * ```ts
   * import { Full, Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue<number>(1);
   * await q.put(1);
   * const error = await q.put(2, { timeout: 10 }).catch((error) => error);
   * console.assert(error instanceof Full);
   * q.close();
   * ```
   */
  put(obj: T, options?: PutOptions): Promise<void> {
    try {
      this.#open("put");
      const transfer = partsOf(options, "put");
      const { timeout, signal } = checked(options, "put");
      return noticed(this.#open("put").put(obj, transfer, timeout, signal));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Gets the next item, waiting while the queue is empty.
   *
   * @param options `block: false`: does not wait; `timeout`: how long, in
   * milliseconds; `signal`: ends the wait.
   * @returns The item.
   * @throws {Empty} There was no item in time.
   * @throws {ShutDown} The queue has been shut down and is empty.
   * @throws {OSError} This handle is closed, also while waiting.
   * @throws {EOFError} The thread that owns the queue has ended.
   * @throws {TypeError} The timeout is not a number.
   *
   * @example
   * ```ts
   * import { Empty, Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue<number>();
   * const error = await q.get({ block: false }).catch((error) => error);
   * console.assert(error instanceof Empty);
   * q.close();
   * ```
   */
  get(options?: GetOptions): Promise<T> {
    try {
      this.#open("get");
      const { timeout, signal } = checked(options, "get");
      return this.#open("get").get(timeout, signal) as Promise<T>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * `put(obj, { block: false })`.
   *
   * @param obj The item.
   * @returns Resolves when the item is in the queue.
   * @throws {Full} There is no room. All else as for `put`.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue<number>(1);
   * await q.put_nowait(1);
   * console.assert(await q.full());
   * q.close();
   * ```
   */
  put_nowait(obj: T): Promise<void> {
    return this.put(obj, { block: false });
  }

  /**
   * `get({ block: false })`. Unlike Python's, it finds what any `put` that has
   * resolved has stored.
   *
   * @returns The item.
   * @throws {Empty} There is no item. All else as for `get`.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue<number>();
   * await q.put(1);
   * console.assert(await q.get_nowait() === 1);
   * q.close();
   * ```
   */
  get_nowait(): Promise<T> {
    return this.get({ block: false });
  }

  /**
   * Puts several items, in order, waiting for room as needed. Many items share
   * posts: much faster than one `put` each. Beyond Python.
   *
   * @param items A collection with a `length` or `size` is put as it is now, and
   * what is put later comes behind it; any other iterable is read as there is
   * room, and later puts may come in between.
   * @param options `timeout`: how long all of it may take, in milliseconds;
   * `signal`: ends the wait.
   * @returns Resolves when all items are in the queue.
   * @throws {Full} There was no room in time. Like every error here, it leaves
   * the items before the one that failed in the queue, and no other.
   * @throws {TypeError} Not an iterable. All else as for `put`; and what the
   * iterable throws.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue<number>();
   * await q.put_many([1, 2, 3]);
   * console.assert(await q.qsize() === 3);
   * q.close();
   * ```
   */
  put_many(items: Iterable<T>, options?: QueueOptions): Promise<void> {
    try {
      this.#open("put");
      if (
        typeof (items as { [Symbol.iterator]?: unknown })
          ?.[Symbol.iterator] !== "function"
      ) throw new TypeError("Cannot put: the items must be iterable");
      const { timeout, signal } = checked(options, "put");
      return noticed(this.#open("put").putMany(items, timeout, signal));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Waits for the first item and takes up to `max` that are there, in one
   * exchange with the owner. Beyond Python.
   *
   * @param max The most items to take, at least 1.
   * @param options As for `get`.
   * @returns The items, in order, at least one.
   * @throws {RangeError} `max` is less than 1.
   * @throws {TypeError} `max` is not an integer. All else as for `get`.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue<number>();
   * await q.put_many([1, 2, 3]);
   * console.assert((await q.get_many(2)).join() === "1,2");
   * q.close();
   * ```
   */
  get_many(max: number, options?: GetOptions): Promise<T[]> {
    try {
      this.#open("get");
      integer(max, "max", "get");
      if (max < 1) throw new RangeError("Cannot get: max must be at least 1");
      const { timeout, signal } = checked(options, "get");
      return this.#open("get").getMany(max, timeout, signal) as Promise<T[]>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * How many items have been put and not yet got. Others may change it before
   * the caller looks. Works on every system (not on macOS in Python), and
   * after `close`.
   *
   * @returns The number, as of the moment of the answer.
   * @throws {EOFError} The thread that owns the queue has ended.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue();
   * console.assert(await q.qsize() === 0);
   * q.close();
   * ```
   */
  qsize(): Promise<number> {
    return this.#client.size();
  }

  /**
   * Whether `qsize()` is 0.
   *
   * @returns As of the moment of the answer.
   * @throws {EOFError} The thread that owns the queue has ended.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue();
   * console.assert(await q.empty());
   * q.close();
   * ```
   */
  async empty(): Promise<boolean> {
    return await this.#client.size() === 0;
  }

  /**
   * Whether `qsize()` has reached `maxsize`.
   *
   * @returns As of the moment of the answer; never for a queue without bound.
   * @throws {EOFError} The thread that owns the queue has ended.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue(1);
   * console.assert(!(await q.full()));
   * q.close();
   * ```
   */
  async full(): Promise<boolean> {
    const size = await this.#client.size();
    return this.#client.maxsize > 0 && size >= this.#client.maxsize;
  }

  /**
   * Closes this handle: it puts and gets no more. What it has put still
   * arrives, puts already called are still delivered, its pending gets reject
   * and lose no item. Other handles notice nothing. Closing again does nothing.
   * When every handle is closed, nobody can make room any more: puts that wait
   * for it reject with `OSError` then.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue();
   * q.close();
   * console.assert(q.closed);
   * ```
   */
  close(): void {
    this.#client.close();
  }

  /**
   * Waits, after `close`, until all that this handle has put has reached the
   * owner. Unlike Python's it never waits for a consumer, unless puts of this
   * handle still wait for room.
   *
   * @param options `signal`: ends the wait.
   * @returns Resolves when everything has arrived.
   * @throws {OSError} This handle is not closed (Python: `AssertionError`).
   * @throws {EOFError} The thread that owns the queue has ended.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue();
   * await q.put(1);
   * q.close();
   * await q.join_thread();
   * ```
   */
  join_thread(
    options?: { signal?: AbortSignal | undefined },
  ): Promise<void> {
    try {
      const client = this.#client;
      if (!client.closed) {
        throw new OSError("Cannot join the thread: the queue is not closed");
      }
      return client.joinThread(signalOf(options, "join the thread"));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * From now on `join_thread()` does not wait, and neither unsent data nor
   * puts that wait for room keep the program alive. Whole items may be lost
   * when the thread ends before there is room, never parts.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue(1);
   * q.cancel_join_thread();
   * q.close();
   * await q.join_thread();
   * ```
   */
  cancel_join_thread(): void {
    this.#client.cancelJoinThread();
  }

  /**
   * Shuts the queue down for every handle: puts reject with `ShutDown` at
   * once, also those that wait; gets once the queue is empty. Python's
   * `queue.Queue.shutdown` (3.13), which `multiprocessing` does not have.
   *
   * @param options `immediate: true`: drops the items, gets reject at once;
   * the dropped items count as done for `join`.
   * @returns Resolves when the owner has shut it down.
   * @throws {OSError} This handle is closed.
   * @throws {EOFError} The thread that owns the queue has ended.
   * @throws {TypeError} The options are not an object.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue<number>();
   * await q.put(1);
   * await q.shutdown();
   * for await (const x of q) console.assert(x === 1);
   * q.close();
   * ```
   */
  async shutdown(
    options?: { immediate?: boolean | undefined },
  ): Promise<void> {
    const client = this.#open("shut down");
    const { immediate } = optionsOf(options, "shut down");
    await client.shutdown(Boolean(immediate));
  }

  /**
   * Gets items until the queue is shut down, then ends quietly; a loop that
   * ends earlier takes nothing more, also one that a stream made of it cancels
   * while it waits. Python's queues cannot be iterated.
   *
   * @returns The items.
   * @throws {OSError} This handle is closed, also while waiting.
   * @throws {EOFError} The thread that owns the queue has ended.
   *
   * @example
   * ```ts
   * import { Queue } from "@ipc/multiprocessing";
   *
   * const q = new Queue<number>();
   * await q.put_many([1, 2]);
   * await q.shutdown();
   * let sum = 0;
   * for await (const x of q) sum += x;
   * console.assert(sum === 3);
   * q.close();
   * ```
   */
  [Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    return iterate(
      (signal) => this.get({ signal }),
      (error) => error instanceof ShutDown,
    );
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** `close()`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}

/**
 * A queue that knows which of its items are still being worked on. For each
 * item that it got, a consumer calls `task_done()`; `join()` waits until that
 * has happened for every item that was put, across all handles in all threads.
 *
 * @typeParam T What the items are.
 *
 * @example
 * ```ts
 * import { JoinableQueue } from "@ipc/multiprocessing";
 *
 * const q = new JoinableQueue<number>();
 * await q.put(1);
 * await q.get();
 * await q.task_done();
 * await q.join();
 * q.close();
 * ```
 */
export class JoinableQueue<T = unknown> extends Queue<T> {
  /**
   * Says that the work on one item is done. As in Python it is not tied to a
   * `get`, and works after `close`.
   *
   * @returns Resolves when it is counted.
   * @throws {RangeError} It was called more often than items were put.
   * @throws {EOFError} The thread that owns the queue has ended.
   *
   * @example
   * ```ts
   * import { JoinableQueue } from "@ipc/multiprocessing";
   *
   * const q = new JoinableQueue();
   * const error = await q.task_done().catch((error) => error);
   * console.assert(error instanceof RangeError);
   * q.close();
   * ```
   */
  task_done(): Promise<void> {
    return clientOf(this)!.taskDone();
  }

  /**
   * Waits until `task_done()` has been called for every item that was put.
   *
   * @param options `signal`: ends the wait.
   * @returns Resolves when nothing is unfinished.
   * @throws {EOFError} The thread that owns the queue has ended.
   *
   * @example
   * ```ts
   * import { JoinableQueue } from "@ipc/multiprocessing";
   *
   * const q = new JoinableQueue();
   * await q.join(); // nothing was put
   * q.close();
   * ```
   */
  join(options?: { signal?: AbortSignal | undefined }): Promise<void> {
    try {
      return clientOf(this)!.join(signalOf(options, "join"));
    } catch (error) {
      return Promise.reject(error);
    }
  }
}

// The handle that the next constructor takes instead of making a queue.
let received: Client | undefined;

register("queue", {
  of: (value) => clientOf(value),
  make: (descriptor) => {
    received = clientFrom(descriptor);
    return received.joinable ? new JoinableQueue() : new Queue();
  },
  ports: portsOf,
});

const PATIENT = { timeout: Infinity, signal: undefined };

function checked(
  given: GetOptions | null | undefined,
  what: string,
): { timeout: number; signal: AbortSignal | undefined } {
  if (given === undefined) return PATIENT;
  const { block = true, timeout } = optionsOf<GetOptions>(given, what);
  const ms = duration(timeout, what);
  return { timeout: block ? ms : 0, signal: signalOf(given, what) };
}
