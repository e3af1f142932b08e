import { createHash } from "node:crypto";
import { type Connection, EOFError } from "../../mod.ts";
import { work } from "../_worker.ts";

interface Args {
  reader: Connection;
  reply: Connection<never, string>;
  chunk: number;
}

await work(async ({ reader, reply, chunk }: Args) => {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(chunk); // one for the whole file
  await reply.send("ready");
  while (true) {
    try {
      const length = await reader.recv_bytes_into(buffer);
      hash.update(buffer.subarray(0, length));
    } catch (error) {
      if (!(error instanceof EOFError)) throw error;
      break;
    }
  }
  reader.close();
  await reply.send(hash.digest("hex"));
  reply.close();
});
