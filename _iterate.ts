/** The loop over what a connection or a queue gives. */

/**
 * What `take` gives, until it rejects with what `ends` says is the end.
 *
 * A generator alone would end only when the call that waits has ended: one that
 * is given up from outside (by a stream that is cancelled, say) would take one
 * more, for nobody. Here `return()` and `throw()` abort that call.
 */
export function iterate<T>(
  take: (signal: AbortSignal) => Promise<T>,
  ends: (error: unknown) => boolean,
): AsyncGenerator<T, void, undefined> {
  const stop = new AbortController();
  const { signal } = stop;
  const taken = (async function* () {
    while (true) {
      let value: T;
      try {
        value = await take(signal);
      } catch (error) {
        if (signal.aborted || ends(error)) return;
        throw error;
      }
      yield value;
    }
  })();
  const end = taken.return.bind(taken);
  const fail = taken.throw.bind(taken);
  return Object.assign(taken, {
    return(value: void | PromiseLike<void>) {
      stop.abort();
      return end(value);
    },
    throw(error: unknown) {
      stop.abort();
      return fail(error);
    },
  });
}
