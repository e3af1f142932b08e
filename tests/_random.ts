// Random tests that can be repeated: SEED=… fixes the seed, SCALE=… makes them longer.

import { env } from "./_runtime.ts";

/** A seed, from SEED or at random; it is printed, so that a failure can be repeated. */
export function seed(): number {
  const given = Number(env("SEED") || NaN);
  const value = Number.isInteger(given)
    ? given
    : Math.floor(Math.random() * 2 ** 31);
  console.log(`seed ${value} (SEED=${value} repeats this run)`);
  return value;
}

/** `count`, times what SCALE says. */
export function scale(count: number): number {
  return Math.max(1, Math.round(count * (Number(env("SCALE")) || 1)));
}

/** A small deterministic generator (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** A number in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer in [0, below). */
  int(below: number): number {
    return Math.floor(this.next() * below);
  }

  /** True with this probability. */
  chance(probability = 0.5): boolean {
    return this.next() < probability;
  }

  /** One of these. */
  pick<T>(list: readonly T[]): T {
    return list[this.int(list.length)] as T;
  }

  /** A shuffled copy. */
  shuffle<T>(list: readonly T[]): T[] {
    const copy = [...list];
    for (let i = copy.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      [copy[i], copy[j]] = [copy[j] as T, copy[i] as T];
    }
    return copy;
  }
}
