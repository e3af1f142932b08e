// Threads that use a queue and write down what happened when: see `linearizability_test.ts`.

import type { Queue } from "../../mod.ts";

/** While the owner is busy: a put times out, there is room again, another put does not wait. */
export async function putAfterTimeout(
  { puts, gets, words }: {
    puts: Queue<number>;
    gets: Queue<number>;
    words: Int32Array;
  },
): Promise<string[]> {
  await puts.put(1);
  await puts.put(2);
  const got = [await gets.get()]; // with a copy of what follows
  Atomics.store(words, 1, 1);
  while (Atomics.load(words, 2) === 0);
  await puts.put(3);
  const outcomes: string[] = [];
  const note = (put: Promise<void>) =>
    put.then(() => "put", ({ name }) => name).then((how) => outcomes.push(how));
  await note(puts.put(4, { timeout: 1 }));
  got.push(await gets.get());
  await note(puts.put_nowait(5));
  Atomics.store(words, 0, 1); // the owner goes on
  puts.close();
  gets.close();
  return [...got.map(String), ...outcomes];
}
