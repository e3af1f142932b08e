// A worker on every runtime: `new Worker` of the web platform where it is there (Deno, Bun), else Node's.
//
//     main                                    worker
//     const c1 = start(url, { conn, name });  await work(async ({ conn, name }: Args) => { ... });
//     await c1.join();

import type { Worker as NodeWorker } from "node:worker_threads";
import process from "node:process";
import { type Connection, pack, Pipe, unpack } from "../mod.ts";

type Threads = typeof import("node:worker_threads");

/** Node's threads; `undefined` where the web platform's `Worker` is there. */
const threads: Threads | undefined = typeof globalThis.Worker === "function"
  ? undefined
  : process.getBuiltinModule("node:worker_threads");

/** A worker, seen from the thread that started it: Python's `Process`. */
export interface Started {
  /** Resolves when the worker has ended; rejects with its uncaught error. */
  join(): Promise<void>;
  /** Ends it, whatever it is doing. */
  terminate(): void;
}

interface Hello<T> {
  args: T;
  alive: Connection<never>;
}

/** Starts a worker and hands it `args`, endpoints included. */
export function start(url: URL, args: unknown): Started {
  // The worker holds the other end and says nothing: end of file means that it has ended.
  const [life, alive] = Pipe<never>();
  const [message, transfer] = pack({ args, alive });
  return threads
    ? startNode(new threads.Worker(url), message, transfer, life)
    : startWeb(new Worker(url, { type: "module" }), message, transfer, life);
}

function startWeb(
  worker: Worker,
  message: unknown,
  transfer: Transferable[],
  life: Connection<never>,
): Started {
  let crash: { error: unknown } | undefined;
  worker.addEventListener("error", (event) => {
    event.preventDefault(); // else it would end the program
    crash ??= { error: event.error ?? new Error(event.message) };
    life.close(); // also when it ended before it took its end of the pipe
  });
  worker.postMessage(message, transfer);
  const ended = endOfFile(life).finally(() => worker.terminate());
  return {
    async join() {
      await ended;
      if (crash) throw crash.error;
    },
    terminate: () => worker.terminate(),
  };
}

function startNode(
  worker: NodeWorker,
  message: unknown,
  transfer: Transferable[],
  life: Connection<never>,
): Started {
  let crash: { error: unknown } | undefined;
  worker.on("error", (error) => crash ??= { error });
  // Not the end of file: only now has all that it printed come out.
  const ended = new Promise<void>((done) => worker.on("exit", () => done()));
  worker.postMessage(message, transfer as never);
  return {
    async join() {
      await ended;
      life.close();
      if (crash) throw crash.error;
    },
    terminate: () => void worker.terminate(),
  };
}

async function endOfFile(life: Connection<never>): Promise<void> {
  try {
    await life.recv();
  } catch {
    // End of file, or closed here after an error.
  }
  life.close();
}

/** In a worker's file: what it is to do, with what it was started with. The worker ends when that is done. */
export async function work<T>(
  target: (args: T) => void | Promise<void>,
): Promise<void> {
  const { args, alive } = unpack<Hello<T>>(await firstMessage());
  await target(args);
  alive.close();
  // A worker of the web platform ends only when told to; Node's and Bun's end by themselves.
  if (!threads) (globalThis as { close?: () => void }).close?.();
}

function firstMessage(): Promise<unknown> {
  return new Promise((done) => {
    if (threads) threads.parentPort!.once("message", done);
    else {
      globalThis.addEventListener(
        "message",
        (event) => done((event as MessageEvent).data),
        { once: true },
      );
    }
  });
}
