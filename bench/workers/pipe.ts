// The other side of `pipe.ts`: answers, or takes what comes and says when it has everything.

import { type Connection, EOFError, unpack } from "../../mod.ts";
import { listen } from "../_threads.ts";

/** What this worker is told to do, at one end of a pipe or a bare port. */
export interface Job {
  /** Send everything back; or take `count` messages, and again. */
  work: "echo" | "sink" | "bytes" | "bytes into";
  count: number;
  /** Bytes of a message. */
  size?: number;
  /** How many bytes messages the bare port acknowledges at once; 0: none. */
  step?: number;
  conn?: Connection;
  port?: MessagePort;
}

const DONE = "done";

async function serve(
  { work, count, size = 0 }: Job,
  conn: Connection,
): Promise<void> {
  const buffer = new Uint8Array(size);
  while (true) {
    switch (work) {
      case "echo":
        await conn.send(await conn.recv());
        continue;
      case "sink":
        for (let i = 0; i < count; i++) await conn.recv();
        break;
      case "bytes":
        for (let i = 0; i < count; i++) await conn.recv_bytes();
        break;
      case "bytes into":
        for (let i = 0; i < count; i++) await conn.recv_bytes_into(buffer);
    }
    await conn.send(DONE);
  }
}

function serveRaw(
  { work, count, size = 0, step = 0 }: Job,
  port: MessagePort,
): void {
  const buffer = new Uint8Array(size);
  let seen = 0;
  let owed = 0;
  port.onmessage = ({ data }) => {
    if (work === "echo") return port.postMessage(data);
    if (work === "bytes into") {
      buffer.set(data instanceof ArrayBuffer ? new Uint8Array(data) : data);
    }
    if (step > 0 && ++owed === step) {
      owed = 0;
      port.postMessage(step);
    }
    if (++seen === count) {
      seen = 0;
      port.postMessage(DONE);
    }
  };
}

listen((data) => {
  const job = unpack<Job>(data);
  if (job.conn) {
    serve(job, job.conn).catch((error) => {
      if (!(error instanceof EOFError)) throw error; // the row is over
    });
  }
  if (job.port) serveRaw(job, job.port);
});
