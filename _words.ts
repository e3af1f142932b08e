/**
 * The counters of a queue, in shared memory where there is any. Whoever holds
 * a handle counts and claims here without asking the owner. All of them wrap:
 * only differences are compared.
 *
 * - `TAIL` counts the items admitted: reserved by a put, whether they have
 *   reached the owner or not.
 * - `HEAD` counts the items claimed: item number `HEAD` belongs to whoever
 *   moves `HEAD` past it by compare-and-exchange, exactly once.
 * - `GOT` counts the items handed to a caller (or dropped). `TAIL - GOT` is
 *   the size of the queue: what is claimed and on its way still has its place.
 * - `DONE` counts the items that `task_done` was called for.
 * - `PUTS` is how many puts wait for room; while any does, none overtakes it.
 * - `BACK` is how many claimed items came back; while any is there, the owner
 *   hands them out first and nobody claims.
 * - `STATE` is `OPEN`, `SHUT` (no puts) or `DROPPED` (no gets either).
 * - `BELL` is 1 while the owner wants to hear of the next change of `GOT`;
 *   `JOINERS` is how many wait for `DONE` to reach `TAIL`.
 *
 * What consumers write, what producers write, and what hardly changes have a
 * cache line each: a core that writes a line takes it from all others.
 */
export const HEAD = 0;
/** See {@linkcode HEAD}. */
export const GOT = 1;
/** See {@linkcode HEAD}. */
export const DONE = 2;
/** See {@linkcode HEAD}. */
export const TAIL = 16;
/** See {@linkcode HEAD}. */
export const PUTS = 32;
/** See {@linkcode HEAD}. */
export const BACK = 33;
/** See {@linkcode HEAD}. */
export const STATE = 34;
/** See {@linkcode HEAD}. */
export const BELL = 35;
/** See {@linkcode HEAD}. */
export const JOINERS = 36;
/** How many words a queue has. */
export const QUEUE_WORDS = 48;

/** `STATE`: open. */
export const OPEN = 0;
/** `STATE`: shut down, what is left can be got. */
export const SHUT = 1;
/** `STATE`: shut down immediately. */
export const DROPPED = 2;

/** A handle's words. How many items it has been admitted to put. */
export const ADMITTED = 0;
/** A handle's words. The number of the last delivery that reached a caller. */
export const LAST_RECEIVED = 1;
/**
 * A handle's words. How many admitted items it has posted, counted just before
 * it posts them: what a put that has resolved has stored is among them.
 */
export const POSTED = 2;
/** A handle's words. How many of its puts it has counted in `PUTS`. */
export const OFFERED = 3;
/** A handle's words. The number of the item after the last copy that has come in. */
export const SEEN = 4;
/** A handle's words. How many items it has taken: copies that it claimed, and what the owner served it with. */
export const HITS = 5;
/** A handle's words. How many of its copies others have claimed. */
export const MISSES = 6;
/**
 * A handle's words. Not 0 while it is between two operations on words that
 * belong together: it claims items and counts them in `GOT`, or takes or leaves
 * a place. A thread that is terminated in between leaves it behind.
 */
export const BUSY = 7;
/** A handle's words. How many handles it has shared: the owner may not know the last ones yet. */
export const SHARED = 8;
/**
 * A handle's words from here on are slots for calls that may be given up: a
 * slot holds the call's number until one side ends the call by exchanging it
 * for 0, the owner when it serves the call, the handle when it gives up. While
 * one of them looks for an item for it, the number is negative; `WANTED` says
 * that the owner has met a handle at that, and wants to hear when it is done.
 */
export const FIRST_SLOT = 9;
/** Of a slot: see {@linkcode FIRST_SLOT}. No number is that small. */
export const WANTED = -0x8000_0000;
/** How many words a handle has. */
export const HANDLE_WORDS = 32;

/** The size of the queue at one moment. What is still on its way when all was dropped does not count. */
export function sizeOf(words: Int32Array): number {
  while (Atomics.load(words, STATE) !== DROPPED) {
    const tail = Atomics.load(words, TAIL);
    const got = Atomics.load(words, GOT);
    if (Atomics.load(words, TAIL) === tail) return (tail - got) | 0;
  }
  return 0;
}

/** Takes a place; returns whether there was one. */
export function reserve(words: Int32Array, maxsize: number): boolean {
  while (true) {
    const tail = Atomics.load(words, TAIL);
    // `GOT` only grows: what is free now is still free when `TAIL` moves.
    if (
      maxsize > 0 && ((tail - Atomics.load(words, GOT)) | 0) >= maxsize
    ) return false;
    if (Atomics.compareExchange(words, TAIL, tail, (tail + 1) | 0) === tail) {
      return true;
    }
  }
}

/** Whether `task_done` was called for every item. */
export function allDone(words: Int32Array): boolean {
  // In this order: what is done then was all there was a moment later. Less
  // than nothing is left when what was counted as a task was not put after all.
  const done = Atomics.load(words, DONE);
  return ((Atomics.load(words, TAIL) - done) | 0) <= 0;
}

/** Counts one task as done; returns whether there was one. */
export function finishTask(words: Int32Array): boolean {
  while (true) {
    const done = Atomics.load(words, DONE);
    if (((Atomics.load(words, TAIL) - done) | 0) <= 0) return false;
    if (
      Atomics.compareExchange(words, DONE, done, (done + 1) | 0) === done
    ) return true;
  }
}

/** Ends the call in a slot, or goes back to `next`; returns whether it had not been ended before. */
export function endSlot(
  words: Int32Array,
  slot: number,
  id: number,
  next = 0,
): boolean {
  return Atomics.compareExchange(words, slot, id, next) === id;
}
