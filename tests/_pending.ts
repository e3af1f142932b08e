// A counter of pending calls: every promise that a method of the module, or `wait`, returns in this thread
// counts from the call until it settles. Importing this wraps the public prototypes.

import { Connection, JoinableQueue, Queue, wait as plainWait } from "../mod.ts";

const pending = new Set<{ name: string }>();

/** The calls that have not settled, by name. */
export function pendingCalls(): string[] {
  return [...pending].map(({ name }) => name);
}

/** From now on they are not counted. */
export function forgetPending(): void {
  pending.clear();
}

type Call = (this: unknown, ...args: unknown[]) => unknown;

const originals = new WeakMap<object, Call>();

/** A method as it was before it was counted: what it returns settles a few microtasks earlier. */
export function uncounted<F extends object>(method: F): F {
  return originals.get(method) as unknown as F;
}

/** The same call, counted. What it returns is derived: who does not handle its rejection still hears of it. */
function counted(name: string, call: Call): Call {
  return function (...args) {
    const returned = call.apply(this, args);
    if (!(returned instanceof Promise)) return returned;
    const entry = { name };
    pending.add(entry);
    return returned.then((value) => {
      pending.delete(entry);
      return value;
    }, (error) => {
      pending.delete(entry);
      throw error;
    });
  };
}

const classes = Object.entries({ Connection, Queue, JoinableQueue });
for (const [name, { prototype }] of classes) { // bundlers rename classes
  for (const key of Reflect.ownKeys(prototype)) {
    const { value, ...rest } = Object.getOwnPropertyDescriptor(prototype, key)!;
    if (typeof value !== "function" || key === "constructor") continue;
    const wrapped = counted(`${name}.${String(key)}()`, value);
    originals.set(wrapped, value);
    Object.defineProperty(prototype, key, { ...rest, value: wrapped });
  }
}

/** `wait` of the module, counted: a function that is imported cannot be wrapped in its place. */
export const wait: typeof plainWait = counted(
  "wait()",
  plainWait as Call,
) as typeof plainWait;

/** Waits until all have settled, but not for ever; returns those that have not. */
export async function allSettled(patience: number): Promise<string[]> {
  const end = Date.now() + patience;
  while (pending.size > 0 && Date.now() < end) {
    await new Promise((done) => setTimeout(done, 5));
  }
  return pendingCalls();
}
