/**
 * Python's `multiprocessing` queues and pipes for Web Workers.
 *
 * @module
 */

export {
  type BytesLike,
  Connection,
  type SendOptions,
  wait,
  type WaitOptions,
} from "./connection.ts";
export * from "./errors.ts";
export { Pipe } from "./pipe.ts";
export type { Transferable } from "./_runtime.ts";
export { pack, unpack } from "./_handoff.ts";
export {
  type GetOptions,
  JoinableQueue,
  type PutOptions,
  Queue,
  type QueueOptions,
} from "./queue.ts";
