// Runs inside each runtime: measures the rows of some files and prints one line of JSON per row.
// Its argument, in a browser the page's fragment: a JSON object `{ files, rows, rounds, peers }` (see `run.ts`).

import { measure, type Row } from "./_rows.ts";

interface Task {
  files: string[];
  rows: string[];
  rounds: number;
  /** Where the packages of other people are; `null`: nowhere. */
  peers: string | null;
}

interface Process {
  argv: string[];
  exit(): void;
}

const { process, told } = globalThis as unknown as {
  process?: Process;
  /** In a browser: hears the rows. */
  told?(row: object): Promise<void>;
};
const task = process?.argv[2] ?? decodeURIComponent(location.hash.slice(1));
const { files, rows, rounds, peers } = JSON.parse(task) as Task;

async function run(tell: (result: object) => unknown): Promise<void> {
  for (const file of files) {
    // Not a text that a bundler would look into.
    const { make } = await import(new URL(file, import.meta.url).href) as {
      make(peers: string | null): Row[];
    };
    for (const row of make(peers)) {
      const wanted = rows.length === 0 ||
        rows.some((part) => row.name.includes(part));
      if (wanted) await tell(await measure(row, rounds));
    }
  }
}

if (told) {
  const error = await run(told).catch(String);
  await told(error ? { error } : { end: true });
} else {
  await run((result) => console.log(JSON.stringify(result)));
  process!.exit();
}
