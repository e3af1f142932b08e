// A queue with a bound, in one thread: what `put` and `get` do when it is full and when it is empty.

import { Empty, Full, Queue } from "../mod.ts";

const q = new Queue<unknown>(3); // at most three items

await q.put({ name: "xiao" });
await q.put([1, 2, 3, 4, 5]);
await q.put("shawn");

try {
  // await q.put(1777, { timeout: 3000 }); // waits three seconds for room
  await q.put(1777, { block: false });
} catch (error) {
  if (!(error instanceof Full)) throw error;
  console.log("队列已满");
}

console.log(await q.get());
console.log(await q.get());
console.log(await q.get());

try {
  // await q.get({ timeout: 3000 }); // waits three seconds for an item
  await q.get({ block: false });
} catch (error) {
  if (!(error instanceof Empty)) throw error;
  console.log("队列已空");
}
