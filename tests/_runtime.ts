// Which runtime this is, for both sides of the harness. Tests do not ask.

import type { Locks } from "../_locks.ts";

export type { Locks };

type Env = Record<string, string | undefined>;

interface Globals {
  Deno?: { env: { get(name: string): string | undefined } };
  Bun?: unknown;
  EdgeRuntime?: unknown;
  /** What a runner without an environment sets instead. */
  testEnv?: Env;
  process?: {
    env?: Env;
    release?: { name?: string };
    getBuiltinModule?(name: string): unknown;
    exit?(code?: number): never;
  };
}

const globals = globalThis as unknown as Globals;

function detect(): "deno" | "bun" | "node" | "workerd" | "edge" | "browser" {
  // First: workerd can look like Node, and Deno and Bun have a `process`.
  if (globalThis.navigator?.userAgent === "Cloudflare-Workers") {
    return "workerd";
  }
  if (globals.EdgeRuntime) return "edge";
  if (globals.Deno) return "deno";
  if (globals.Bun) return "bun";
  if (globals.process?.release?.name === "node") return "node";
  return "browser";
}

/** The runtime that executes this. */
export const runtime: ReturnType<typeof detect> = detect();

/** There is one thread only. */
const alone = runtime === "workerd" || runtime === "edge";

/**
 * Whether a thread is there, memory can be shared with it, things can be transferred to it;
 * whether programs can be started, an uncaught error ends a worker, the ports in messages that nobody
 * can read any more get closed, a Proxy can be told from what it stands for, clones have the prototypes of
 * this realm.
 */
export const abilities: Record<
  | "workers"
  | "shared"
  | "transfer"
  | "processes"
  | "fatal errors"
  | "orphans"
  | "proofs of life"
  | "proxies"
  | "realm",
  boolean
> = {
  "fatal errors": runtime !== "browser",
  orphans: runtime !== "browser",
  "proofs of life": runtime === "browser",
  proxies: globals.process?.getBuiltinModule !== undefined,
  realm: Object.getPrototypeOf(structuredClone({})) === Object.prototype,
  processes: runtime === "deno" || runtime === "bun" || runtime === "node",
  workers: !alone,
  shared: !alone && typeof SharedArrayBuffer !== "undefined",
  transfer: !alone,
};

/** Web Locks where the end of a thread releases them, and is not told by an event. */
export const locks: Locks | undefined =
  runtime === "deno" || runtime === "browser"
    ? (globalThis.navigator as { locks?: Locks }).locks
    : undefined;

/** An environment variable; `undefined` where there is none, or no environment. */
export function env(name: string): string | undefined {
  if (globals.Deno) return globals.Deno.env.get(name);
  return (globals.testEnv ?? globals.process?.env)?.[name];
}

/** A built-in module of Node, in Deno, Bun and Node only. */
export function builtin<T>(name: string): T {
  return globals.process?.getBuiltinModule?.(name) as T;
}

/** `process.exit`, in Bun and Node only. */
export function exitProcess(code?: number): void {
  globals.process?.exit?.(code);
}
