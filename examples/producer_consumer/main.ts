// Producer and consumer over a pipe: the main thread sends 0 to 9, a worker takes them until end of file.

import { Pipe } from "../../mod.ts";
import { start } from "../_worker.ts";

const [left, right] = Pipe<number>();
const c1 = start(new URL("./worker.ts", import.meta.url), {
  conn: right, // moves to the worker: nothing is left open here that would have to be closed
  name: "c1",
});

for (let i = 0; i < 10; i++) await left.send(i);
left.close();

await c1.join();
console.log("主进程");
