// Runs inside each runtime: measures the rows of some files and prints one line of JSON per row.
// Arguments: a JSON object `{ files, rows, rounds, peers }` (see `run.ts`).

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

const { process } = globalThis as unknown as { process: Process };
const { files, rows, rounds, peers } = JSON.parse(process.argv[2]!) as Task;

for (const file of files) {
  const { make } = await import(`./${file}`) as {
    make(peers: string | null): Row[];
  };
  for (const row of make(peers)) {
    if (rows.length > 0 && !rows.some((part) => row.name.includes(part))) {
      continue;
    }
    console.log(JSON.stringify(await measure(row, rounds)));
  }
}
process.exit();
