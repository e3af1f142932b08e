/** Checks of arguments that several calls share. */

/** A duration in milliseconds; `undefined` and `null` wait for ever. */
export function duration(ms: number | null | undefined, what: string): number {
  if (ms === null || ms === undefined) return Infinity;
  if (typeof ms !== "number" || Number.isNaN(ms)) {
    throw new TypeError(
      `Cannot ${what}: the timeout must be a number of milliseconds or null`,
    );
  }
  return ms < 0 ? 0 : ms;
}

/** An integer, safe to count with. */
export function integer(value: number, name: string, what: string): number {
  if (!Number.isInteger(value)) {
    throw new TypeError(`Cannot ${what}: ${name} must be an integer`);
  }
  return value;
}

/** The options object of a call, if there is one. */
export function options<T extends object>(
  value: T | null | undefined,
  what: string,
): Partial<T> {
  if (value === undefined || value === null) return {};
  // A signal by itself would be taken for no options.
  if (typeof value !== "object" || "aborted" in value) {
    throw new TypeError(
      `Cannot ${what}: the options must be an object, such as { signal }`,
    );
  }
  return value;
}

/** What a call is to transfer. */
export function partsOf<P>(
  given: { transfer?: P[] | undefined } | null | undefined,
  what: string,
): P[] | undefined {
  if (given === undefined) return undefined; // as in most calls
  const transfer = options(given, what).transfer ?? undefined;
  if (transfer !== undefined && !Array.isArray(transfer)) {
    throw new TypeError(`Cannot ${what}: transfer must be an array`);
  }
  return transfer;
}

/** The signal of a call, which has not been aborted; throws the reason of one that has. */
export function signalOf(
  given: { signal?: AbortSignal | undefined } | null | undefined,
  what: string,
): AbortSignal | undefined {
  if (given === undefined) return undefined;
  const { signal } = options(given, what);
  if (signal === undefined || signal === null) return undefined;
  if (
    typeof signal !== "object" || typeof signal.aborted !== "boolean" ||
    typeof signal.addEventListener !== "function" ||
    typeof signal.removeEventListener !== "function"
  ) {
    throw new TypeError(`Cannot ${what}: the signal must be an AbortSignal`);
  }
  if (signal.aborted) throw signal.reason;
  return signal;
}
