// Uses what it is sent in its first moment. Without `_worker.ts`, which listens only after a while.

import { type Connection, type Queue, unpack } from "../../mod.ts";
import { builtin, exitProcess, runtime } from "../_runtime.ts";

/** What it is sent, packed. */
export interface Args {
  conn: Connection<never, string>;
  q: Queue<string>;
  /** `wait` for an item, or `end` when all has been sent, or `leave` at once. */
  then: "wait" | "end" | "leave";
}

interface NodePort {
  on(type: "message", listener: (data: unknown) => void): void;
}

async function begin(data: unknown): Promise<void> {
  const { conn, q, then } = unpack<Args>(data);
  if (then === "leave") return leave();
  if (then === "wait") q.get();
  const posted: Promise<void>[] = [conn.send("word")];
  if (then === "wait") return;
  posted.push(q.put("item"), q.put_many(["more"]));
  await Promise.all(posted);
  leave();
}

function leave(): void {
  if (runtime === "deno" || runtime === "browser") globalThis.close();
  else exitProcess();
}

if (runtime === "node") {
  const { parentPort } = builtin<{ parentPort: NodePort }>(
    "node:worker_threads",
  );
  parentPort.on("message", begin);
} else globalThis.onmessage = ({ data }) => begin(data);
