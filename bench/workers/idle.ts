// The other side of `_idle.ts`: keeps the handles of a queue.

import { type Connection, type Queue, unpack } from "../../mod.ts";
import { collect, listen } from "../_threads.ts";

interface Message {
  queue?: Queue<number>;
  conn?: Connection<never, string>;
}

const handles: Queue<number>[] = [];
let told: Connection<never, string>;

listen(async (data) => {
  if (data === "collect") {
    await collect();
    return await told.send("collected");
  }
  const { queue, conn } = unpack<Message>(data);
  if (queue) handles.push(queue);
  if (conn) told = conn;
});
