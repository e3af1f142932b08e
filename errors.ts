/**
 * The errors of this module. Each is an `Error` whose `name` is its class
 * name; the names and the relations between them are Python's.
 *
 * @module
 */

/**
 * The other end is gone and everything it sent has been read, or the thread
 * that owns a queue has ended.
 *
 * @example
 * ```ts
 * import { EOFError, Pipe } from "@ipc/multiprocessing";
 *
 * const [a, b] = Pipe();
 * b.close();
 * try {
 *   await a.recv();
 * } catch (error) {
 *   console.assert(error instanceof EOFError);
 * }
 * a.close();
 * ```
 */
export class EOFError extends Error {
  /** The class name, for checks across realms. */
  override name = "EOFError";
}

/**
 * A connection or queue cannot do what was asked: it is closed, it works in
 * the other direction only, or a message was longer than allowed.
 *
 * @example
 * ```ts
 * import { OSError, Pipe } from "@ipc/multiprocessing";
 *
 * const [a, b] = Pipe();
 * a.close();
 * const error = await a.send(1).catch((error) => error);
 * console.assert(error instanceof OSError);
 * b.close();
 * ```
 */
export class OSError extends Error {
  /** The class name, for checks across realms. */
  override name = "OSError";
}

/**
 * The other end of the connection has closed or died: nobody will read.
 *
 * @example
 * ```ts
 * import { BrokenPipeError, Pipe } from "@ipc/multiprocessing";
 *
 * const [a, b] = Pipe();
 * b.close();
 * const error = await a.send(1).catch((error) => error);
 * console.assert(error instanceof BrokenPipeError);
 * a.close();
 * ```
 */
export class BrokenPipeError extends OSError {
  /** The class name, for checks across realms. */
  override name = "BrokenPipeError";
}

/**
 * A bytes message did not fit into the buffer that was given for it. The
 * message was consumed; it is here, complete, in `args[0]`.
 *
 * @example
 * ```ts
 * import { BufferTooShort, Pipe } from "@ipc/multiprocessing";
 *
 * const [a, b] = Pipe();
 * await a.send_bytes(new Uint8Array([1, 2, 3]));
 * try {
 *   await b.recv_bytes_into(new Uint8Array(2));
 * } catch (error) {
 *   console.assert(error instanceof BufferTooShort && error.args[0].length === 3);
 * }
 * a.close();
 * b.close();
 * ```
 */
export class BufferTooShort extends Error {
  /** The class name, for checks across realms. */
  override name = "BufferTooShort";
  /** One element: the complete message. */
  args: [Uint8Array<ArrayBuffer>];

  /**
   * Keeps the message.
   *
   * @param message The complete bytes message that did not fit.
   * @param room How many bytes there was room for.
   */
  constructor(message: Uint8Array<ArrayBuffer>, room?: number) {
    const fits = room === undefined ? "" : `, there is room for ${room}`;
    super(
      `Cannot receive into the buffer: the message has ${message.length} bytes${fits}`,
    );
    this.args = [message];
  }
}

/**
 * A queue had no item within the time allowed. Python's `queue.Empty`.
 *
 * @example
 * ```ts
 * import { Empty, Queue } from "@ipc/multiprocessing";
 *
 * const q = new Queue();
 * const error = await q.get({ timeout: 10 }).catch((error) => error);
 * console.assert(error instanceof Empty);
 * q.close();
 * ```
 */
export class Empty extends Error {
  /** The class name, for checks across realms. */
  override name = "Empty";
}

/**
 * A queue had no room within the time allowed. Python's `queue.Full`.
 *
 * @example
 * ```ts
 * import { Full, Queue } from "@ipc/multiprocessing";
 *
 * const q = new Queue<number>(1);
 * await q.put(1);
 * const error = await q.put_nowait(2).catch((error) => error);
 * console.assert(error instanceof Full);
 * q.close();
 * ```
 */
export class Full extends Error {
  /** The class name, for checks across realms. */
  override name = "Full";
}

/**
 * The queue has been shut down. Python's `queue.ShutDown` (3.13).
 *
 * @example
 * ```ts
 * import { Queue, ShutDown } from "@ipc/multiprocessing";
 *
 * const q = new Queue<number>();
 * await q.shutdown();
 * const error = await q.put(1).catch((error) => error);
 * console.assert(error instanceof ShutDown);
 * q.close();
 * ```
 */
export class ShutDown extends Error {
  /** The class name, for checks across realms. */
  override name = "ShutDown";
}
