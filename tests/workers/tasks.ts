// Functions for `spawnTask`: one unpacked argument, one result.

import { Pipe } from "../../mod.ts";

/** Returns its argument. */
export function echo(args: unknown): unknown {
  return args;
}

const kept: unknown[] = [];

/** Returns while a call waits. */
export function leaveCall(): void {
  const [a, b] = Pipe();
  kept.push(b); // or its end would be that of the call
  a.recv().catch(() => {});
}

/** Throws. */
export function raise(args: { message: string }): never {
  throw new RangeError(args.message);
}

/** Never returns. */
export function forever(): Promise<never> {
  return new Promise(() => {});
}
