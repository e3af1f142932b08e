// Prints and counts what runners without a reporter of their own have run.

/** What became of one test. */
export interface Outcome {
  name: string;
  /** Milliseconds it took; absent when it was skipped. */
  ms?: number;
  /** Why it failed. */
  error?: string;
  /** What it printed. */
  output?: string[];
}

/** Counts of one run. */
export class Report {
  passed = 0;
  failed = 0;
  skipped = 0;
  readonly #failures: string[] = [];

  /** Prints and counts one outcome. */
  add(where: string, { name, ms, error, output = [] }: Outcome): void {
    for (const line of output) console.log(`    ${line}`);
    if (error !== undefined) {
      this.failed++;
      console.log(`✗ ${name}`);
      this.#failures.push(`${where} ${name}\n${error}\n`);
    } else if (ms === undefined) {
      this.skipped++;
      console.log(`- ${name} (skipped)`);
    } else {
      this.passed++;
      console.log(`✓ ${name} (${Math.round(ms)} ms)`);
    }
  }

  /** Prints the failures and, last, the counts; ends the program. */
  end(name: string): never {
    for (const failure of this.#failures) console.log(`\n✗ ${failure}`);
    if (this.passed + this.failed === 0) {
      console.log("No test ran");
      this.failed++;
    }
    console.log(
      `${name}: ${this.passed} passed, ${this.failed} failed` +
        (this.skipped > 0 ? `, ${this.skipped} skipped` : ""),
    );
    Deno.exit(this.failed > 0 ? 1 : 0);
  }
}

/** `[files, filter]` of a command line: `tests/x_test.ts --filter "name"`. */
export function chosen(
  args: string[],
  all: string[],
): [files: string[], filter: string] {
  const at = args.indexOf("--filter");
  const filter = at < 0 ? "" : args[at + 1] ?? "";
  const named = args
    .filter((arg, i) => arg.endsWith(".ts") && (at < 0 || i !== at + 1))
    .map((arg) => arg.replace(/^.*\//, ""));
  for (const name of named) {
    if (!all.includes(name)) throw new Error(`No test file ${name}`);
  }
  return [named.length > 0 ? named : all, filter];
}
