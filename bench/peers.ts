// A Connection against what other people made for the same work.

import { rate, type Row, type Way } from "./_rows.ts";
import { roundTrips } from "./_sketches.ts";
import { type Thread, thread } from "./_threads.ts";
import { connectModule, flat } from "./pipe.ts";
import type { PeerJob } from "./workers/peers.ts";

interface Comlink {
  wrap(port: MessagePort): { echo(value: unknown): Promise<unknown> };
}

let worker: Promise<Thread> | undefined;

async function start(job: PeerJob, transfer: Transferable[]): Promise<void> {
  const { post } = await (worker ??= thread("peers.ts"));
  post(job, transfer);
}

/** A call of an exposed function, awaited. */
async function comlink(peers: string, count: number): Promise<Way> {
  const url = `${peers}/comlink/dist/esm/comlink.mjs`;
  const { wrap } = await import(url) as Comlink;
  const { port1, port2 } = new MessageChannel();
  await start({ peer: "comlink", url, port: port2 }, [port2]);
  const api = wrap(port1);
  return {
    round: () =>
      rate(count, async () => {
        for (let i = 0; i < count; i++) await api.echo(flat(i));
      }),
    end: () => port1.close(),
  };
}

/** A stream whose readable side was transferred; `undefined` where that is not possible. */
async function stream(count: number): Promise<Way | undefined> {
  const { readable, writable } = new TransformStream<unknown, unknown>();
  const { port1, port2 } = new MessageChannel();
  try {
    structuredClone(readable, { transfer: [readable] }).getReader();
  } catch {
    return undefined; // Bun
  }
  const fresh = new TransformStream<unknown, unknown>();
  await start(
    { peer: "stream", count, port: port2, readable: fresh.readable },
    [port2, fresh.readable],
  );
  writable.abort().catch(() => {});
  const writer = fresh.writable.getWriter();
  return {
    round: () =>
      rate(count, async () => {
        const done = new Promise((done) => port1.onmessage = done);
        for (let i = 0; i < count; i++) {
          await writer.ready;
          writer.write(flat(i)).catch(() => {});
        }
        await done;
      }),
    end: () => (writer.abort().catch(() => {}), port1.close()),
  };
}

/** The rows of this file. */
export function make(peers: string | null): Row[] {
  const calls = 5_000; // see `roundTrip`
  const chunks = 1000;
  return [
    {
      name: "peers: round trip, {id, name}",
      unit: "round trips",
      floor: ["comlink"],
      goal: 1.3,
      sketches: ["sketch"],
      ways: {
        sketch: roundTrips(calls, flat),
        comlink: () =>
          peers ? comlink(peers, calls) : Promise.resolve(undefined),
        module: async () => {
          const conn = await connectModule({ work: "echo", count: calls });
          return {
            round: () =>
              rate(calls, async () => {
                for (let i = 0; i < calls; i++) {
                  await conn.send(flat(i));
                  await conn.recv();
                }
              }),
            end: () => conn.close(),
          };
        },
      },
    },
    {
      name: "peers: awaited one way, {id, name}",
      unit: "messages",
      floor: ["transferred stream"],
      ways: {
        "transferred stream": () => stream(chunks),
        module: async () => {
          const conn = await connectModule({ work: "sink", count: chunks });
          return {
            round: () =>
              rate(chunks, async () => {
                for (let i = 0; i < chunks; i++) await conn.send(flat(i));
                await conn.recv();
              }),
            end: () => conn.close(),
          };
        },
      },
    },
  ];
}
