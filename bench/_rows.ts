// What a bench is made of, and how it is measured.

/** One way to do the work of a row, set up and ready to run. */
export interface Way {
  /** Does the work once; resolves to how much of it was done in a second. */
  round(): Promise<number>;
  /** Takes down what was set up. */
  end?(): void | Promise<void>;
}

/** One line of the table. */
export interface Row {
  /** Unique; `python.py` uses the same names. */
  name: string;
  /** What a rate counts: `messages`, `MB`, ... */
  unit: string;
  /** `module` against the best of these is the ratio that counts. */
  floor: string[];
  /** What that ratio should be at least. */
  goal?: number;
  /** For a goal that is a rate, not a ratio. */
  goalRate?: number;
  /** Goals against others: ways, or `Python`. */
  goals?: Record<string, number>;
  /** The ways that bound it (see `_sketches.ts`): the best of them does. */
  sketches?: string[];
  /** The sketch that they are measured against, instead of the floor. */
  sketchFloor?: string;
  /** The ways by name; one of them is `module`. A way that this runtime cannot go is `undefined`. */
  ways: Record<string, () => Promise<Way | undefined>>;
}

/** What was measured. */
export interface Result {
  name: string;
  unit: string;
  floor: string[];
  goal?: number | undefined;
  goalRate?: number | undefined;
  goals?: Record<string, number> | undefined;
  /** Median rates. */
  rates: Record<string, number>;
  /** `module` against each of the others: medians of the rounds' own ratios. */
  ratios: Record<string, number>;
  /** The best sketch, and the ratios that it would have in the place of `module`. */
  bound?: { sketch: string; ratios: Record<string, number> } | undefined;
}

/** So many rounds are not counted: engines compile in steps. */
const WARM_UP = 3;
/** The work is repeated until a round has taken so long: some milliseconds alone differ by a factor of four. */
const ROUND_MS = 150;

/** The median. */
export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? sorted[middle]!
    : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Runs `work`, which does `amount` of something; resolves to its rate. */
export async function rate(
  amount: number,
  work: () => void | Promise<unknown>,
): Promise<number> {
  const start = performance.now();
  await work();
  return amount / ((performance.now() - start) / 1000);
}

/** The rate of a round that is long enough. */
async function repeated(way: Way): Promise<number> {
  const end = performance.now() + ROUND_MS;
  let times = 0;
  let pace = 0;
  do {
    pace += 1 / await way.round();
    times++;
  } while (performance.now() < end);
  return times / pace;
}

/**
 * Measures a row: all ways take turns within each round, each round in
 * another order, so that whatever else the machine does hits all of them.
 */
export async function measure(row: Row, rounds: number): Promise<Result> {
  const ways: [string, Way, number[]][] = [];
  for (const [name, make] of Object.entries(row.ways)) {
    const way = await make();
    if (way) ways.push([name, way, []]);
  }
  for (let i = 0; i < WARM_UP + rounds; i++) {
    for (let j = 0; j < ways.length; j++) {
      // Backwards every other time: none always pays for the garbage of the same one.
      const at = i + (i % 2 === 0 ? j : ways.length - j);
      const [, way, rates] = ways[at % ways.length]!;
      await way.round(); // pays for the garbage of the way before
      const rate = await repeated(way);
      if (i >= WARM_UP) rates.push(rate);
    }
  }
  for (const [, way] of ways) await way.end?.();
  const { name, unit, floor, goal, goalRate, goals } = row;
  const { sketches = [], sketchFloor } = row;
  const of = (name: string) => ways.find(([way]) => way === name)?.[2] ?? [];
  const against = (own: number[], other: number[]) =>
    median(own.map((rate, i) => rate / other[i]!));
  const others = ways.filter(([name]) =>
    name !== "module" && !sketches.includes(name) && name !== sketchFloor
  );
  const [sketch] = sketches.filter((way) => of(way).length > 0)
    .sort((a, b) => median(of(b)) - median(of(a)));
  return {
    name,
    unit,
    floor,
    goal,
    goalRate,
    goals,
    rates: Object.fromEntries(
      ways.map(([name, , rates]) => [name, median(rates)]),
    ),
    ratios: Object.fromEntries(
      others.map(([name, , rates]) => [name, against(of("module"), rates)]),
    ),
    bound: sketch === undefined ? undefined : {
      sketch,
      ratios: Object.fromEntries(
        others.map(([name, , rates]) => [
          name,
          against(of(sketch), sketchFloor ? of(sketchFloor) : rates),
        ]),
      ),
    },
  };
}
