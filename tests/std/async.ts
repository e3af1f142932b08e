// A small stand-in for jsr:@std/async, for where JSR does not answer and for Bun and Node.

/** Options of {@linkcode deadline} and {@linkcode delay}. */
export interface SignalOptions {
  signal?: AbortSignal;
}

/** Settles as `promise` does, or rejects with the signal's reason. */
export function abortable<T>(
  promise: Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() =>
      signal.removeEventListener("abort", abort)
    );
  });
}

/** Settles as `promise` does, or rejects with a `TimeoutError` after `ms`. */
export async function deadline<T>(
  promise: Promise<T>,
  ms: number,
  options: SignalOptions = {},
): Promise<T> {
  const timeout = new AbortController();
  // A plain timer: unlike `AbortSignal.timeout` it keeps every runtime alive.
  const timer = setTimeout(
    () =>
      timeout.abort(
        new DOMException("Signal timed out.", "TimeoutError"),
      ),
    ms,
  );
  try {
    const timed = abortable(promise, timeout.signal);
    const { signal } = options;
    return await (signal ? abortable(timed, signal) : timed);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves after `ms`. */
export function delay(ms: number, options: SignalOptions = {}): Promise<void> {
  const { signal } = options;
  return new Promise<void>((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
