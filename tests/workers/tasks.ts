// Functions for `spawnTask`: one unpacked argument, one result.

/** Returns its argument. */
export function echo(args: unknown): unknown {
  return args;
}

/** Throws. */
export function raise(args: { message: string }): never {
  throw new RangeError(args.message);
}

/** Never returns. */
export function forever(): Promise<never> {
  return new Promise(() => {});
}
