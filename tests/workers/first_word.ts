// Waits for an item and says a word, in its first moment. Without `_worker.ts`, which listens only after a while.

import { type Connection, type Queue, unpack } from "../../mod.ts";
import { builtin, runtime } from "../_runtime.ts";

interface Args {
  conn: Connection<unknown, string>;
  q: Queue<unknown>;
}

interface NodePort {
  on(type: "message", listener: (data: unknown) => void): void;
}

function begin(data: unknown): void {
  const { conn, q } = unpack<Args>(data);
  q.get();
  conn.send("word");
}

if (runtime === "node") {
  const { parentPort } = builtin<{ parentPort: NodePort }>(
    "node:worker_threads",
  );
  parentPort.on("message", begin);
} else globalThis.onmessage = ({ data }) => begin(data);
