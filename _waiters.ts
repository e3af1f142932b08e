/**
 * Calls that wait. Value, error, timeout, abort and close race for each of
 * them; {@linkcode Waiter.settle} and {@linkcode Waiter.fail} are the only
 * places where one ends, and the first wins. While it waits, a call keeps its
 * thread alive.
 */

import { List } from "./_list.ts";
import { after, hold, keepRequest, release } from "./_runtime.ts";

/** Why a waiting call is to be given up. */
export type GiveUp = "timeout" | "abort";

/** What to do when a signal aborts. */
class Alarm {
  readonly calls = new Set<() => void>();

  handleEvent(): void {
    for (const call of this.calls) call();
  }
}

// One listener for all calls that wait on a signal: platforms look through all
// the listeners for each that comes or goes.
const alarms = new WeakMap<AbortSignal, Alarm>();

/** Calls `call` when `signal` aborts; returns what takes that back. */
function listen(signal: AbortSignal, call: () => void): () => void {
  let alarm = alarms.get(signal);
  if (alarm === undefined) {
    alarm = new Alarm();
    alarms.set(signal, alarm);
    signal.addEventListener("abort", alarm);
  }
  const { calls } = alarm;
  calls.add(call);
  return () => {
    calls.delete(call);
    if (calls.size > 0) return;
    alarms.delete(signal);
    signal.removeEventListener("abort", alarm);
  };
}

/** One waiting call, and its place in a {@linkcode WaitList}. */
export class Waiter<T> {
  readonly promise: Promise<T>;
  #resolve!: (value: T) => void;
  #reject!: (reason: unknown) => void;
  #deafen: (() => void) | undefined;
  #disarm: (() => void) | undefined;
  #holding = true;
  readonly #letRequestGo: (() => void) | undefined = keepRequest();
  done = false;
  // deno-lint-ignore no-explicit-any
  list: List<any> | undefined;
  previous: this | undefined;
  next: this | undefined;

  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    hold();
  }

  /** Calls `giveUp` when `timeout` milliseconds pass or `signal` aborts. */
  arm(
    timeout: number,
    signal: AbortSignal | undefined,
    giveUp: (why: GiveUp) => void,
  ): void {
    if (this.done) return;
    if (signal?.aborted) return giveUp("abort");
    if (timeout !== Infinity) {
      this.#disarm = after(timeout, () => giveUp("timeout"));
    }
    if (signal) this.#deafen = listen(signal, () => giveUp("abort"));
  }

  /** Resolves, if it still waits. */
  settle(value: T): void {
    if (this.#end()) this.#resolve(value);
  }

  /** Rejects, if it still waits. */
  fail(reason: unknown): void {
    if (this.#end()) this.#reject(reason);
  }

  /** No longer keeps the thread alive. */
  letGo(): void {
    if (!this.#holding) return;
    this.#holding = false;
    this.#letRequestGo?.();
    release();
  }

  /** Whether it was still waiting. */
  #end(): boolean {
    if (this.done) return false;
    this.done = true;
    this.#disarm?.();
    this.#deafen?.();
    this.list?.remove(this);
    this.letGo();
    return true;
  }
}

/** Waiting calls in call order; any of them can leave in constant time. */
// deno-lint-ignore no-explicit-any
export class WaitList<W extends Waiter<any>> extends List<W> {
  /** Rejects all of them. */
  failAll(reason: () => unknown): void {
    while (this.first) this.first.fail(reason());
  }

  /** Resolves all of them. */
  settleAll(): void {
    while (this.first) this.first.settle(undefined);
  }
}
