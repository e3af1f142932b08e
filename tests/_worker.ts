// The worker's side of the harness: import it first in every worker file.

import { builtin, exitProcess, locks, runtime } from "./_runtime.ts";
import type { Signal } from "./_spawn.ts";

interface Port {
  postMessage(message: unknown, transfer?: Transferable[]): void;
}

interface NodePort extends Port {
  on(type: "message", listener: (data: unknown) => void): void;
  off(type: "message", listener: (data: unknown) => void): void;
}

const node = runtime === "node"
  ? builtin<{ parentPort: NodePort }>("node:worker_threads").parentPort
  : null;
const web = globalThis as unknown as EventTarget & Port & {
  name: string;
  close(): void;
};
const parent: Port = node ?? web;

const early: unknown[] = [];
let handler: ((data: unknown) => void) | null = null;

function receive(data: unknown): void {
  if (handler) handler(data);
  else early.push(data);
}

function receiveEvent(event: Event): void {
  receive((event as MessageEvent).data);
}

function signal(message: Signal): void {
  parent.postMessage(message);
}

/** Receives what the spawning thread posts, what came before included. */
export function inbox(fn: (data: unknown) => void): void {
  handler = fn;
  while (early.length > 0) fn(early.shift());
}

/** The next message of the spawning thread. */
export function nextMessage<T = unknown>(): Promise<T> {
  return new Promise((resolve) =>
    inbox((data) => {
      handler = null;
      resolve(data as T);
    })
  );
}

/** Stops listening to the spawning thread, so that this listener keeps nothing alive. */
export function unlisten(): void {
  if (node) node.off("message", receive);
  else web.removeEventListener("message", receiveEvent);
}

/** Posts to the spawning thread. */
export function post(message: unknown, transfer: Transferable[] = []): void {
  parent.postMessage(message, transfer);
}

/** Posts what a task has returned, and which calls have not settled. */
export function postResult(
  packed: unknown,
  transfer: Transferable[],
  pending: string[],
): void {
  const message: Signal = { harness: "result", packed, pending };
  parent.postMessage(message, transfer);
}

/** Ends this worker at once. */
export function exit(): void {
  signal({ harness: "exit" });
  if (runtime === "deno" || runtime === "browser") web.close();
  else exitProcess(0);
}

if (node) node.on("message", receive);
else web.addEventListener("message", receiveEvent);

if (locks && web.name) {
  // Held until this thread ends: that tells the spawning thread that it did.
  const held = Promise.withResolvers<void>();
  locks.request(web.name, () => {
    held.resolve();
    return new Promise<void>(() => {});
  });
  held.promise.then(() => signal({ harness: "ready" }));
} else {
  signal({ harness: "ready" });
}
