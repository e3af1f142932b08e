// The other side of `peers.ts`.

import { listen } from "../_threads.ts";

/** What this worker is told to do. */
export type PeerJob =
  | { peer: "comlink"; url: string; port: MessagePort }
  | {
    peer: "stream";
    count: number;
    port: MessagePort;
    readable: ReadableStream;
  };

interface Comlink {
  expose(api: object, port: MessagePort): void;
}

async function read(
  readable: ReadableStream,
  count: number,
  port: MessagePort,
): Promise<void> {
  const reader = readable.getReader();
  while (true) {
    for (let i = 0; i < count; i++) {
      if ((await reader.read()).done) return;
    }
    port.postMessage("done");
  }
}

listen(async (data) => {
  const job = data as PeerJob;
  if (job.peer === "comlink") {
    const { expose } = await import(job.url) as Comlink;
    expose({ echo: (value: unknown) => value }, job.port);
  } else {
    // Ends with an error when the row is over.
    read(job.readable, job.count, job.port).catch(() => {});
  }
});
