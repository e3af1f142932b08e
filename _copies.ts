/**
 * Copies of the next items, which the owner has posted ahead: a handle claims
 * them without a frame, by moving `HEAD`. Others do so too, with copies of
 * their own: whoever moves it has the item.
 *
 * Invariant: the copies that are left are of the items number `#index` and on.
 */

import { NOTHING } from "./_core.ts";
import { BACK, BUSY, GOT, HEAD, HITS, MISSES, TAIL } from "./_words.ts";

/** See the module's comment. */
export class Copies {
  readonly #words: Int32Array;
  readonly #mine: Int32Array;
  readonly #claimed: (some: boolean) => void;
  #items: unknown[] = [];
  #index = 0;
  #at = 0;
  /** Items that the owner handed over since copies were last found claimed. */
  #served = 0;

  /**
   * @param mine The words of this handle, `words` those of the queue.
   * @param claimed Hears of each attempt to claim when it is over, and whether it succeeded.
   */
  constructor(
    words: Int32Array,
    mine: Int32Array,
    claimed: (some: boolean) => void,
  ) {
    this.#words = words;
    this.#mine = mine;
    this.#claimed = claimed;
  }

  /** Claims the next item; `NOTHING`: the owner has to be asked. */
  claim(): unknown {
    if (this.#claim(1) === 0) return NOTHING;
    const at = this.#at - 1;
    const copy = this.#items[at];
    this.#items[at] = undefined; // the caller's alone from now on
    return copy;
  }

  /** Claims the next items, up to `max`; `undefined`: the owner has to be asked. */
  claimSeveral(max: number): unknown[] | undefined {
    const count = this.#claim(max);
    return count > 0
      ? this.#items.slice(this.#at - count, this.#at)
      : undefined;
  }

  /** Claims as many as `claimable` says. */
  #claim(max: number): number {
    const words = this.#words;
    const mine = this.#mine;
    let count: number;
    while ((count = this.claimable(max)) > 0) {
      const index = this.#index;
      const next = (index + count) | 0;
      mine[BUSY] = 1;
      const claims =
        Atomics.compareExchange(words, HEAD, index, next) === index;
      if (claims) Atomics.add(words, GOT, count);
      Atomics.store(mine, BUSY, 0);
      if (claims) {
        this.#at += count;
        this.#index = next;
        Atomics.add(mine, HITS, count);
      }
      this.#claimed(claims);
      if (claims) return count;
    }
    return 0;
  }

  /** How many of up to `max` items can be claimed here: `max`, or all that there are; else 0. */
  claimable(max: number): number {
    const words = this.#words;
    if (this.#at === this.#items.length || Atomics.load(words, BACK) > 0) {
      return 0;
    }
    const behind = (Atomics.load(words, HEAD) - this.#index) | 0;
    if (behind < 0) return 0;
    let left = this.#items.length - this.#at;
    if (behind > 0) { // others were faster, or the owner served a get with them
      const missed = Math.min(behind, left) - this.#served;
      if (missed > 0) Atomics.add(this.#mine, MISSES, missed);
      this.#served = 0;
      this.#at += behind;
      this.#index = (this.#index + behind) | 0;
      left -= behind;
      if (left <= 0) {
        this.drop();
        return 0;
      }
    }
    if (left >= max) return max;
    const there = (Atomics.load(words, TAIL) - this.#index) | 0;
    return there > left ? 0 : left;
  }

  /** Whether half of them have been taken. */
  get low(): boolean {
    return this.#at * 2 >= this.#items.length;
  }

  /** More have come, of item number `index` and on. */
  add(index: number, items: unknown[]): void {
    const left = this.#items.length - this.#at;
    const follow = left > 0 && ((this.#index + left) | 0) === index;
    if (follow) this.#items = this.#items.slice(this.#at).concat(items);
    else {
      this.#items = items;
      this.#index = index;
    }
    this.#at = 0;
  }

  /** The owner has handed over so many. */
  served(count: number): void {
    this.#served += count;
    Atomics.add(this.#mine, HITS, count);
  }

  /** Forgets them all. */
  drop(): void {
    this.#items = [];
    this.#at = 0;
  }

  /** For tests: what decides its next steps. */
  inspect(): [items: unknown[], index: number, at: number, served: number] {
    return [this.#items, this.#index, this.#at, this.#served];
  }
}
