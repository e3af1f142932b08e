/**
 * One end of a pipe, {@linkcode Connection}, and {@linkcode wait}.
 *
 * @module
 */

import { duration, integer, partsOf, signalOf } from "./_arguments.ts";
import { BufferTooShort, EOFError, OSError } from "./errors.ts";
import { type Descriptor, register, UNCLONEABLE } from "./_handoff.ts";
import type { ByteMessage } from "./_inbox.ts";
import { iterate } from "./_iterate.ts";
import { closedError, Link, portsOf, settle } from "./_link.ts";
import type { Transferable } from "./_runtime.ts";
import { Waiter } from "./_waiters.ts";

/** Options of a call that waits. */
export interface WaitOptions {
  /** Ends the wait: the call rejects with the signal's reason, nothing is lost. */
  signal?: AbortSignal | undefined;
}

/** Options of {@linkcode Connection.send}. */
export interface SendOptions extends WaitOptions {
  /** Parts of the message to be moved instead of copied, as for `postMessage`. */
  transfer?: Transferable[] | undefined;
}

/** What bytes are read from, and received into. */
export type BytesLike = ArrayBufferLike | ArrayBufferView;

// Set by the class: its constructor and its inside are nobody else's.
let connect: (link: Link) => Connection<never, unknown>;
let linkOf: (connection: object) => Link | undefined;

// Held weakly by the program, strongly by its port: the link lives on when the
// connection was dropped, so it has to be told.
const dropped: FinalizationRegistry<Link> | undefined =
  typeof FinalizationRegistry === "function"
    ? new FinalizationRegistry((link) => link.abandon())
    : undefined;

let lastNumber = 2;

/**
 * One end of a pipe: sends and receives whole messages, objects and bytes, in
 * one order.
 *
 * - What arrives is the value as it was when `send` was called, as
 *   `structuredClone` would give it; it has left this thread when the promise
 *   resolves.
 * - Messages arrive in order, each exactly once.
 * - `send` waits while the peer has 256 messages or 4 MiB unread; 1024 messages
 *   when it has often waited for more.
 * - When the peer closes or dies, what it has sent can still be read, then
 *   `EOFError`; sending is a `BrokenPipeError`.
 * - Several receives may wait at once; they are served in call order.
 * - An idle connection does not keep its thread alive, a waiting call does.
 * - One that is garbage-collected closes: hold it as long as it is in use.
 *
 * Connections are made by `Pipe()`, and arrive in messages. Unlike Python's,
 * one end can be used by several tasks at once, `close()` wakes what waits on
 * this end, and a connection that is sent moves instead of being duplicated.
 *
 * @typeParam In What is received.
 * @typeParam Out What is sent.
 *
 * @example
 * ```ts
 * import { Pipe } from "@ipc/multiprocessing";
 *
 * const [a, b] = Pipe<string>();
 * await a.send("hello");
 * console.assert(await b.recv() === "hello");
 * a.close();
 * b.close();
 * ```
 */
export class Connection<In = unknown, Out = In> {
  readonly #link: Link;
  readonly #number: number = ++lastNumber;
  private readonly endpoint: symbol = UNCLONEABLE;

  static {
    connect = (link) => new Connection<never, unknown>(link);
    linkOf = (value) =>
      typeof value === "object" && value !== null && #link in value
        ? value.#link
        : undefined;
  }

  private constructor(link: unknown) {
    if (!(link instanceof Link)) {
      throw new TypeError("Cannot construct a Connection: use Pipe()");
    }
    this.#link = link;
    dropped?.register(this, link);
  }

  /** Whether this end has been closed or handed over; not whether the peer has. */
  get closed(): boolean {
    return this.#link.closed;
  }

  /** Whether this end can receive. */
  get readable(): boolean {
    return this.#link.readable;
  }

  /** Whether this end can send. */
  get writable(): boolean {
    return this.#link.writable;
  }

  /**
   * A number that is unique among the open connections of this thread and
   * stays the same while this one is open.
   *
   * Python returns the file descriptor; threads have none, it is a key only.
   *
   * @returns The number.
   * @throws {OSError} This end is closed.
   *
   * @example
   * ```ts
   * import { Pipe } from "@ipc/multiprocessing";
   *
   * const [a, b] = Pipe();
   * console.assert(a.fileno() !== b.fileno());
   * a.close();
   * b.close();
   * ```
   */
  fileno(): number {
    if (this.#link.closed) throw closedError("tell the number", this.#link);
    return this.#number;
  }

  /**
   * Sends one object; endpoints in it, inside plain objects and arrays, go
   * along: connections move, queues are shared.
   *
   * @param obj Anything that `structuredClone` can clone.
   * @param options `transfer`: parts to move instead of copy; `signal`: ends
   * the wait for room, though the message, already posted, may still arrive.
   * @returns Resolves when the message is posted and the peer has fewer than
   * 256 messages (1024 when it has often waited for more) and 4 MiB unread; at
   * once when it has nothing else unread, however large the message is.
   * @throws {OSError} This end is closed or read-only, or an endpoint in the
   * message is closed.
   * @throws {BrokenPipeError} The peer has closed or died, also while waiting.
   * @throws {DOMException} `DataCloneError`: the value cannot be cloned.
   * @throws {TypeError} The message holds an end of this very pipe.
   *
   * @example
   * ```ts
   * import { Pipe } from "@ipc/multiprocessing";
   *
   * const [a, b] = Pipe<{ name: string }>();
   * await a.send({ name: "xiao" });
   * console.assert((await b.recv()).name === "xiao");
   * a.close();
   * b.close();
   * ```
   */
  send(obj: Out, options?: SendOptions): Promise<void> {
    try {
      const link = toSend(this.#link, "send");
      const transfer = partsOf(options, "send");
      return link.send(obj, transfer, signalOf(options, "send"));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Receives the next object, in order.
   *
   * @param options `signal`: ends the wait.
   * @returns The object.
   * @throws {EOFError} The peer has closed or died and all it sent has been read.
   * @throws {OSError} This end is closed, also while waiting, or write-only.
   * @throws {TypeError} The next message is bytes; it stays in place.
   *
   * @example
   * ```ts
   * import { Pipe } from "@ipc/multiprocessing";
   *
   * const [a, b] = Pipe<number>();
   * const received = b.recv();
   * await a.send(1);
   * console.assert(await received === 1);
   * a.close();
   * b.close();
   * ```
   */
  recv(options?: WaitOptions): Promise<In> {
    try {
      const link = toReceive(this.#link, "receive");
      return receive<In>(link, undefined, options, "receive");
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Sends one message of raw bytes. They are copied before the call returns.
   *
   * @param buffer What holds the bytes.
   * @param offset Where they begin, in bytes of the buffer or view.
   * @param size How many, in bytes; by default all from `offset` on.
   * @param options `signal`: as for `send`.
   * @returns As for `send`.
   * @throws {OSError} This end is closed or read-only.
   * @throws {BrokenPipeError} The peer has closed or died, also while waiting.
   * @throws {RangeError} `offset` is negative or past the end, `size` is
   * negative, or both together are past the end. Nothing was sent.
   * @throws {TypeError} Not a buffer, or not integers.
   *
   * @example
   * ```ts
   * import { Pipe } from "@ipc/multiprocessing";
   *
   * const [a, b] = Pipe();
   * await a.send_bytes(new Uint8Array([1, 2, 3, 4]), 1, 2);
   * console.assert((await b.recv_bytes()).join() === "2,3");
   * a.close();
   * b.close();
   * ```
   */
  send_bytes(
    buffer: BytesLike,
    offset: number = 0,
    size?: number | null,
    options?: WaitOptions,
  ): Promise<void> {
    try {
      const link = toSend(this.#link, "send bytes");
      const bytes = part(buffer, offset, size);
      return link.sendBytes(bytes, signalOf(options, "send bytes"));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Receives one whole bytes message.
   *
   * @param maxlength The most bytes that it may have; by default any number.
   * @param options `signal`: ends the wait.
   * @returns The bytes, in a buffer that nobody else holds.
   * @throws {OSError} "bad message length": the message is longer. It is lost,
   * and so is reading from this end: a duplex end becomes write-only, a
   * read-only one closes. Also when this end is closed or write-only.
   * @throws {EOFError} The peer has closed or died and all it sent has been read.
   * @throws {RangeError} `maxlength` is negative.
   * @throws {TypeError} The next message is an object; it stays in place. Or
   * `maxlength` is not an integer.
   *
   * @example
   * ```ts
   * import { Pipe } from "@ipc/multiprocessing";
   *
   * const [a, b] = Pipe();
   * await a.send_bytes(new TextEncoder().encode("hello"));
   * console.assert(new TextDecoder().decode(await b.recv_bytes(5)) === "hello");
   * a.close();
   * b.close();
   * ```
   */
  recv_bytes(
    maxlength?: number | null,
    options?: WaitOptions,
  ): Promise<Uint8Array<ArrayBuffer>> {
    try {
      const link = toReceive(this.#link, "receive bytes");
      const most = integer(
        maxlength ?? Number.MAX_SAFE_INTEGER,
        "maxlength",
        "receive bytes",
      );
      if (most < 0) {
        throw new RangeError("Cannot receive bytes: negative maxlength");
      }
      const consume = (message: ByteMessage) =>
        most < message.length ? tooLong(link, message, most) : message.own();
      return receive(link, consume, options, "receive bytes");
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Receives one whole bytes message into a buffer.
   *
   * Unlike Python, where a misaligned offset is rounded and an odd length cut
   * for arrays of larger elements, everything here is in bytes.
   *
   * @param buffer Where the bytes go.
   * @param offset Where they begin, in bytes of the buffer or view.
   * @param options `signal`: ends the wait.
   * @returns The length of the message, in bytes.
   * @throws {BufferTooShort} The message does not fit. It is consumed, and
   * complete in `args[0]`; the buffer is untouched, the connection goes on.
   * @throws {OSError} This end is closed or write-only.
   * @throws {EOFError} The peer has closed or died and all it sent has been read.
   * @throws {RangeError} `offset` is negative or past the end; nothing was consumed.
   * @throws {TypeError} Not a buffer, not an integer, or the next message is an
   * object; it stays in place.
   *
   * @example
   * ```ts
   * import { Pipe } from "@ipc/multiprocessing";
   *
   * const [a, b] = Pipe();
   * const buffer = new Uint8Array(8);
   * await a.send_bytes(new Uint8Array([1, 2, 3]));
   * console.assert(await b.recv_bytes_into(buffer, 4) === 3);
   * console.assert(buffer.join() === "0,0,0,0,1,2,3,0");
   * a.close();
   * b.close();
   * ```
   */
  recv_bytes_into(
    buffer: BytesLike,
    offset: number = 0,
    options?: WaitOptions,
  ): Promise<number> {
    try {
      const link = toReceive(this.#link, "receive bytes");
      const view = viewOf(buffer, "receive bytes");
      integer(offset, "offset", "receive bytes");
      if (offset < 0) {
        throw new RangeError("Cannot receive bytes: negative offset");
      }
      if (offset > view.length) {
        throw new RangeError("Cannot receive bytes: offset too large");
      }
      const consume = (message: ByteMessage) => {
        const { length } = message;
        const room = Math.max(0, view.length - offset); // it may have shrunk
        if (length > room) throw new BufferTooShort(message.own(), room);
        if (length > 0) message.copyTo(view, offset);
        link.recycle(message);
        return length;
      };
      return receive(link, consume, options, "receive bytes");
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Whether a receive would not have to wait: a message is there, or the peer
   * has closed or died. Consumes nothing.
   *
   * @param timeout How long to wait at most, in milliseconds. `0`, the
   * default: not at all, but what has been delivered to this thread counts;
   * `null`: for ever.
   * @param options `signal`: ends the wait.
   * @returns Whether a receive would answer at once.
   * @throws {OSError} This end is closed, also while waiting, or write-only.
   * @throws {TypeError} The timeout is not a number.
   *
   * @example
   * ```ts
   * import { Pipe } from "@ipc/multiprocessing";
   *
   * const [a, b] = Pipe();
   * console.assert(await b.poll() === false);
   * await a.send("hello");
   * console.assert(await b.poll(1000) === true);
   * a.close();
   * b.close();
   * ```
   */
  async poll(
    timeout: number | null = 0,
    options?: WaitOptions,
  ): Promise<boolean> {
    const link = toReceive(this.#link, "poll");
    const ms = duration(timeout, "poll");
    const signal = signalOf(options, "poll");
    const ready = await readyOf([this], [link], ms, signal, "poll");
    if (ready.length > 0) return true;
    toReceive(link, "poll"); // reading may have ended meanwhile
    return false;
  }

  /**
   * Closes this end. Messages already sent still arrive, then the peer reads
   * `EOFError`; what was not read here is dropped; receives that wait here
   * reject. Any later use is an `OSError`. Closing again does nothing.
   *
   * Unlike Python, calls of other tasks that wait on this end are woken.
   *
   * @example
   * ```ts
   * import { Pipe } from "@ipc/multiprocessing";
   *
   * const [a, b] = Pipe();
   * a.close();
   * console.assert(a.closed && !b.closed);
   * b.close();
   * ```
   */
  close(): void {
    this.#link.close();
  }

  /**
   * Receives objects until the end of file, then ends quietly; a loop that ends
   * earlier takes nothing more, also one that a stream made of it cancels while
   * it waits. Python's connections cannot be iterated.
   *
   * @returns The objects, in order. What `recv` rejects with ends the loop, too:
   * `close()` here meanwhile is an `OSError`.
   *
   * @example
   * ```ts
   * import { Pipe } from "@ipc/multiprocessing";
   *
   * const [a, b] = Pipe<number>();
   * await a.send(1);
   * await a.send(2);
   * a.close();
   * let sum = 0;
   * for await (const x of b) sum += x;
   * console.assert(sum === 3);
   * b.close();
   * ```
   */
  [Symbol.asyncIterator](): AsyncGenerator<In, void, undefined> {
    return iterate(
      (signal) => this.recv({ signal }),
      (error) => error instanceof EOFError,
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

register("connection", {
  of: linkOf,
  make: (descriptor: Descriptor) => connect(Link.from(descriptor)),
  ports: portsOf,
});

/** A connection for a link. */
export function connection<In, Out>(link: Link): Connection<In, Out> {
  return connect(link) as unknown as Connection<In, Out>;
}

/**
 * Waits until some of the connections can be received from without waiting:
 * a message is there, or the peer has closed or died. Consumes nothing. One that
 * only sends counts as well, once its peer has closed or died.
 * Python's `multiprocessing.connection.wait`.
 *
 * @typeParam C The connections' type.
 * @param connections Any iterable of open connections; one given twice is
 * reported once (an error in Python).
 * @param timeout How long to wait at most, in milliseconds; by default for
 * ever; `0` or less: not at all.
 * @param options `signal`: ends the wait.
 * @returns Those that are ready, in the given order; none on timeout.
 * @throws {TypeError} Not an iterable of connections, or not a number.
 * @throws {OSError} One of them is closed, also while waiting.
 *
 * @example
 * ```ts
 * import { Pipe, wait } from "@ipc/multiprocessing";
 *
 * const [a, b] = Pipe();
 * const [c, d] = Pipe();
 * await c.send("ready");
 * console.assert((await wait([b, d], 1000))[0] === d);
 * for (const end of [a, b, c, d]) end.close();
 * ```
 */
// deno-lint-ignore no-explicit-any
export async function wait<C extends Connection<any, any>>(
  connections: Iterable<C>,
  timeout?: number | null,
  options?: WaitOptions,
): Promise<C[]> {
  if (
    typeof (connections as { [Symbol.iterator]?: unknown })
      ?.[Symbol.iterator] !== "function"
  ) {
    throw new TypeError("Cannot wait: the connections must be iterable");
  }
  const list = [...new Set(connections)];
  const links = list.map((connection) => {
    const link = linkOf(connection);
    if (!link) {
      throw new TypeError("Cannot wait: only connections can be waited for");
    }
    if (link.closed) throw closedError("wait", link);
    return link;
  });
  const ms = duration(timeout, "wait");
  const signal = signalOf(options, "wait");
  return await readyOf(list, links, ms, signal, "wait");
}

/** Waits until some of the connections are ready. Holds them: nobody drops what it waits for. */
async function readyOf<C>(
  connections: C[],
  links: Link[],
  ms: number,
  signal: AbortSignal | undefined,
  what: string,
): Promise<C[]> {
  const ready = () => connections.filter((_, i) => links[i]!.ready);
  // All that are ready now are to be reported: one that always is must not
  // hide the others.
  if (
    (ms === 0 || links.length > 1) && !links.every((link) => link.ready)
  ) {
    await settle(links);
    if (signal?.aborted) throw signal.reason;
  }
  const ended = links.find((link) => link.closed);
  if (ended) throw closedError(what, ended);
  const found = ready();
  if (ms === 0 || found.length > 0) return found;
  const waiter = new Waiter<C[]>();
  const look = (why?: string) => {
    if (why) waiter.fail(new OSError(`Cannot ${what}: ${why}`));
    else waiter.settle(ready());
  };
  for (const link of links) link.watch(look);
  waiter.arm(ms, signal, async (why) => {
    if (why === "abort") return waiter.fail(signal!.reason);
    await settle(links); // a timer may come before what was delivered
    look();
  });
  try {
    return await waiter.promise;
  } finally {
    for (const link of links) link.unwatch(look);
  }
}

/** An end that can send. */
function toSend(link: Link, what: string): Link {
  if (link.closed) throw closedError(what, link);
  if (link.writable) return link;
  throw new OSError(`Cannot ${what}: connection is read-only`);
}

/** An end that can receive. */
function toReceive(link: Link, what: string): Link {
  if (link.closed) throw closedError(what, link);
  if (link.readable) return link;
  throw new OSError(`Cannot ${what}: connection is write-only`);
}

function receive<T>(
  link: Link,
  consume: ((message: ByteMessage) => T) | undefined,
  options: WaitOptions | undefined,
  what: string,
): Promise<T> {
  const signal = signalOf(options, what);
  toReceive(link, what); // the options may have getters, which close it
  return link.receive(consume, signal);
}

function viewOf(buffer: BytesLike, what: string): Uint8Array {
  // Not a subclass: Node's Buffer has another slice(). Nor a detached one.
  if (
    Object.getPrototypeOf(buffer ?? 0) === Uint8Array.prototype &&
    ArrayBuffer.isView(buffer) && (buffer as Uint8Array).length > 0
  ) return buffer as Uint8Array;
  try {
    if (ArrayBuffer.isView(buffer)) {
      // Of an array that its buffer has become too short for, only this tells.
      if ("length" in buffer) {
        Uint8Array.prototype.keys.call(buffer as Uint8Array);
      }
      return new Uint8Array(
        buffer.buffer,
        buffer.byteOffset,
        buffer.byteLength,
      );
    }
    // It takes buffers only, of whatever realm, and none that is detached.
    return new Uint8Array(new DataView(buffer).buffer);
  } catch {
    throw new TypeError(
      `Cannot ${what}: a buffer or a view of one is required`,
    );
  }
}

function part(
  buffer: BytesLike,
  offset: number,
  size: number | null | undefined,
): Uint8Array {
  const view = viewOf(buffer, "send bytes");
  integer(offset, "offset", "send bytes");
  const rest = view.length - offset;
  const length = integer(size ?? rest, "size", "send bytes");
  if (offset < 0) throw new RangeError("Cannot send bytes: offset is negative");
  if (offset > view.length) {
    throw new RangeError("Cannot send bytes: buffer length < offset");
  }
  if (length < 0) throw new RangeError("Cannot send bytes: size is negative");
  if (length > rest) {
    throw new RangeError("Cannot send bytes: buffer length < offset + size");
  }
  return length === view.length ? view : view.subarray(offset, offset + length);
}

function tooLong(link: Link, { length }: ByteMessage, most: number): never {
  if (link.writable) link.endReading();
  else link.close();
  throw new OSError(
    `Cannot receive bytes: bad message length (${length} bytes, at most ${most} allowed)`,
  );
}
