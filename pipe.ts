/**
 * Pipes between threads.
 *
 * @module
 */

import { type Connection, connection } from "./connection.ts";
import { Link } from "./_link.ts";
import { openChannel } from "./_port.ts";
import { uniqueName } from "./_runtime.ts";

/**
 * Makes a pipe and returns its two ends.
 *
 * Both are in this thread; hand one over with `pack`, or in a message. Unlike
 * Python, where an end stays open until every process has closed its copy, an
 * end has one owner: handing it over moves it.
 *
 * @typeParam A What the first end receives.
 * @typeParam B What the second end receives.
 * @param duplex `true`, the default: both ends send and receive. `false`: the
 * first end only receives, the second only sends; `Pipe<T, never>(false)` types
 * them so.
 * @returns The two ends.
 * @throws {TypeError} `duplex` is not a boolean (Python takes anything).
 *
 * @example
 * ```ts
 * import { Pipe } from "@ipc/multiprocessing";
 *
 * const [receiver, sender] = Pipe<number, never>(false);
 * await sender.send(42);
 * console.assert(await receiver.recv() === 42);
 * sender.close();
 * receiver.close();
 * ```
 */
export function Pipe<A = unknown, B = A>(
  duplex: boolean = true,
): [Connection<A, B>, Connection<B, A>] {
  if (typeof duplex !== "boolean") {
    throw new TypeError("Cannot make a pipe: duplex must be true or false");
  }
  const pipe = uniqueName();
  const [port1, port2] = openChannel();
  const first = new Link(pipe, 0, true, duplex, [port1]);
  const second = new Link(pipe, 1, duplex, true, [port2]);
  return [connection(first), connection(second)];
}
