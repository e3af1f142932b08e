// `deno task chaos`: 200 rounds (ROUNDS) in which workers end at any moment. Ends by itself, with one line.

import { chaos, line } from "./_chaos.ts";
import { seed } from "./_random.ts";
import { env, exitProcess } from "./_runtime.ts";

const rounds = Number(env("ROUNDS")) || 200;
const summary = await chaos(rounds, seed(), (summary) => {
  if (summary.rounds % 20 === 0) console.log(line(summary));
});
console.log(`chaos: ${line(summary)}`);
const { lost, doubled, hanging, pending } = summary;
if (lost + doubled + hanging + pending > 0) exitProcess(1);
