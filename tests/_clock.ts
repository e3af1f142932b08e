// Timers that fire when they are told to, for tests in which every step is chosen.

interface Timer {
  id: number;
  ms: number;
  run: () => void;
}

/** Longer timers only keep a thread alive. */
const KEEPER = 2 ** 31 - 1;

/** In place of `setTimeout` and `clearTimeout` between `install` and `restore`. */
export class Clock {
  readonly #timers = new Map<number, Timer>();
  readonly #real = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
  };
  #last = 0;

  install(): void {
    const set = (run: () => void, ms = 0): number => {
      const id = ++this.#last;
      this.#timers.set(id, { id, ms, run });
      return id;
    };
    const clear = (id: unknown) => this.#timers.delete(id as number);
    Object.assign(globalThis, { setTimeout: set, clearTimeout: clear });
  }

  restore(): void {
    Object.assign(globalThis, this.#real);
  }

  /** The timers that time a call out, by the milliseconds they were set to. */
  pending(): number[] {
    return [...this.#timers.values()].map(({ ms }) => ms)
      .filter((ms) => ms < KEEPER);
  }

  /** Fires the timer that was set to so many milliseconds; returns whether there was one. */
  fire(ms: number): boolean {
    for (const timer of this.#timers.values()) {
      if (timer.ms !== ms) continue;
      this.#timers.delete(timer.id);
      timer.run();
      return true;
    }
    return false;
  }
}

/** Runs something with a clock in the place of the platform's timers. */
export async function withClock(
  run: (clock: Clock) => Promise<void>,
): Promise<void> {
  const clock = new Clock();
  clock.install();
  try {
    await run(clock);
  } finally {
    clock.restore();
  }
}
