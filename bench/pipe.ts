// A Connection against the floor, a bare port that carries one message a post.

import { type Connection, pack, Pipe } from "../mod.ts";
import { rate, type Row, type Way } from "./_rows.ts";
import * as sketches from "./_sketches.ts";
import { type Thread, thread } from "./_threads.ts";
import type { Job } from "./workers/pipe.ts";

/** What a Connection allows to be unread; the bare port gets the same for large messages. */
const WINDOW = 256;
const WINDOW_BYTES = 4 * 1024 * 1024;
const KIB = 1024;
const MIB = 1024 * KIB;

/** How many messages of a size may be on their way. */
function windowOf(size: number): number {
  return Math.max(1, Math.min(WINDOW, WINDOW_BYTES / size));
}

type Flat = { id: number; name: string };

/** A small object. */
export function flat(i: number): Flat {
  return { id: i, name: "xiao" };
}

function integer(i: number): number {
  return i;
}

function nested(i: number): unknown {
  return {
    id: i,
    user: { name: "xiao", tags: ["a", "b"] },
    at: { x: i, y: -i },
  };
}

// --- Channels to the worker ---------------------------------------------------

let worker: Promise<Thread> | undefined;

/** A Connection whose other end does a job in the worker. */
export async function connectModule(job: Job): Promise<Connection> {
  const { post } = await (worker ??= thread("pipe.ts"));
  const [here, there] = Pipe();
  post(...pack({ ...job, conn: there }));
  return here;
}

/** The same with a bare port; `next()` resolves to the next answer. */
class Bare {
  port!: MessagePort;
  #took: (data: unknown) => void = () => {};
  #room = 0;

  static async connect(job: Job): Promise<Bare> {
    const { post } = await (worker ??= thread("pipe.ts"));
    const { port1, port2 } = new MessageChannel();
    const bare = new Bare();
    bare.port = port1;
    port1.onmessage = ({ data }) => bare.#took(data);
    post({ ...job, port: port2 }, [port2]);
    return bare;
  }

  next(): Promise<unknown> {
    return new Promise((done) => this.#took = done);
  }

  /** Posts `count` messages with at most `room` unacknowledged (0: any number); resolves when all have arrived. */
  stream(count: number, room: number, post: () => void): Promise<void> {
    this.#room = room || Infinity;
    return new Promise((done) => {
      const fill = () => {
        for (; this.#room > 0 && count > 0; count--, this.#room--) post();
      };
      this.#took = (data) => {
        if (typeof data !== "number") return done();
        this.#room += data;
        fill();
      };
      fill();
    });
  }
}

// --- Objects --------------------------------------------------------------------

function roundTrip(name: string, value: (i: number) => unknown): Row {
  // Two threads on one core are woken several times faster than on two. A
  // round has to be long enough for the scheduler to make up its mind.
  const count = 5_000;
  return {
    name,
    unit: "round trips",
    floor: ["raw"],
    goal: 0.95,
    goals: { Python: 1.5 },
    sketches: ["sketch"],
    ways: {
      sketch: sketches.roundTrips(count, value),
      raw: async () => {
        const bare = await Bare.connect({ work: "echo", count });
        return {
          round: () =>
            rate(count, async () => {
              for (let i = 0; i < count; i++) {
                const answer = bare.next();
                bare.port.postMessage(value(i));
                await answer;
              }
            }),
          end: () => bare.port.close(),
        };
      },
      module: async () => {
        const conn = await connectModule({ work: "echo", count });
        return {
          round: () =>
            rate(count, async () => {
              for (let i = 0; i < count; i++) {
                await conn.send(value(i));
                await conn.recv();
              }
            }),
          end: () => conn.close(),
        };
      },
    },
  };
}

/** Until everything has arrived: one by one, awaited, or `burst` at a time. */
function oneWay(
  name: string,
  value: (i: number) => unknown,
  goal: number,
  burst?: number,
): Row {
  const count = 20_000;
  return {
    name,
    unit: "messages",
    floor: ["raw"],
    goal,
    ...burst ? {} : { goals: { Python: 3 } },
    sketches: ["sketch"],
    ways: {
      sketch: (burst ? sketches.bursts : sketches.oneByOne)(count, value),
      raw: async () => {
        const bare = await Bare.connect({ work: "sink", count });
        return {
          round: () =>
            rate(count, async () => {
              const done = bare.next();
              for (let i = 0; i < count; i++) bare.port.postMessage(value(i));
              await done;
            }),
          end: () => bare.port.close(),
        };
      },
      module: async () => {
        const conn = await connectModule({ work: "sink", count });
        const awaited = async () => {
          for (let i = 0; i < count; i++) await conn.send(value(i));
          await conn.recv();
        };
        const bursts = async (size: number) => {
          for (let i = 0; i < count; i += size) {
            const sent: Promise<void>[] = [];
            for (let j = 0; j < size; j++) sent.push(conn.send(value(i + j)));
            await Promise.all(sent);
          }
          await conn.recv();
        };
        return {
          round: () => rate(count, () => burst ? bursts(burst) : awaited()),
          end: () => conn.close(),
        };
      },
    },
  };
}

/** How fast messages are taken that are already here: no other thread in it. */
function arrived(): Row {
  const count = WINDOW - 1;
  return {
    name: "recv of integers already there",
    unit: "messages",
    floor: [],
    goalRate: 3_000_000,
    ways: {
      module: async () => {
        const [here, there] = Pipe<number>();
        await there.send(0);
        await here.recv();
        return {
          round: async () => {
            let ms = 0;
            for (let k = 0; k < 40; k++) {
              for (let i = 0; i < count; i++) there.send(i);
              await here.poll(null);
              const start = performance.now();
              for (let i = 0; i < count; i++) await here.recv();
              ms += performance.now() - start;
              await new Promise((done) => setTimeout(done, 0));
            }
            return 40 * count / (ms / 1000);
          },
          end: () => (here.close(), there.close()),
        };
      },
    },
  };
}

// --- Bytes ------------------------------------------------------------------------

/** Bare port: the message as it is, which the platform copies; or a copy of it, which is transferred. */
async function rawBytes(
  work: Job["work"],
  size: number,
  count: number,
  transfer: boolean,
  limited: boolean,
): Promise<Way> {
  const window = limited ? windowOf(size) : 0;
  const step = Math.ceil(window / 2);
  const bare = await Bare.connect({ work, count, size, step });
  const bytes = new Uint8Array(size).fill(7);
  const { port } = bare;
  const clone = () => port.postMessage(bytes);
  const move = () => {
    const { buffer } = bytes.slice();
    port.postMessage(buffer, [buffer]);
  };
  return {
    round: () =>
      rate(count, () => bare.stream(count, window, transfer ? move : clone)),
    end: () => port.close(),
  };
}

function bytesRow(
  name: string,
  size: number,
  count: number,
  goal: number,
  work: "bytes" | "bytes into" = "bytes",
  burst?: number,
): Row {
  const limited = size >= 64 * 1024;
  const into = work === "bytes into";
  const sketch = (travel: sketches.Travel) =>
    // What is to come back has to be told of anyhow.
    sketches.bytes(
      count,
      size,
      travel,
      limited || into ? windowOf(size) : 0,
      into,
    );
  const bounds: Row["ways"] = burst
    ? { sketch: sketches.byteBursts(count, size) }
    : {
      ...size < KIB ? { "sketch text": sketch("text") } : {},
      "sketch clone": sketch("clone"),
      "sketch transfer": sketch("transfer"),
    };
  return {
    name,
    unit: "messages",
    floor: ["raw clone", "raw transfer"],
    goal,
    goals: { Python: burst ? 8 : 1.5 },
    sketches: Object.keys(bounds),
    ways: {
      ...bounds,
      "raw clone": () => rawBytes(work, size, count, false, limited),
      "raw transfer": () => rawBytes(work, size, count, true, limited),
      module: async () => {
        const conn = await connectModule({ work, count, size });
        const bytes = new Uint8Array(size).fill(7);
        return {
          round: () =>
            rate(count, async () => {
              if (burst) {
                for (let i = 0; i < count; i += burst) {
                  const sent: Promise<void>[] = [];
                  for (let j = 0; j < burst; j++) {
                    sent.push(conn.send_bytes(bytes));
                  }
                  await Promise.all(sent);
                }
              } else {
                for (let i = 0; i < count; i++) await conn.send_bytes(bytes);
              }
              await conn.recv();
            }),
          end: () => conn.close(),
        };
      },
    },
  };
}

// --- Opening ------------------------------------------------------------------------

function opening(): Row {
  const count = 200;
  return {
    name: "open, first message, close",
    unit: "pipes",
    floor: ["raw"],
    goal: 1 / 3,
    ways: {
      raw: () =>
        Promise.resolve({
          round: () =>
            rate(count, async () => {
              for (let i = 0; i < count; i++) {
                const { port1, port2 } = new MessageChannel();
                await new Promise((done) => {
                  port2.onmessage = done;
                  port1.postMessage(i);
                });
                port1.close();
                port2.close();
              }
            }),
        }),
      module: () =>
        Promise.resolve({
          round: () =>
            rate(count, async () => {
              for (let i = 0; i < count; i++) {
                const [a, b] = Pipe();
                await a.send(i);
                await b.recv();
                a.close();
                b.close();
              }
            }),
        }),
    },
  };
}

/** The rows of this file. */
export function make(): Row[] {
  return [
    roundTrip("round trip, integer", integer),
    roundTrip("round trip, {id, name}", flat),
    oneWay("send awaited, {id, name}", flat, 0.9),
    oneWay("send burst, {id, name}", flat, 6, 1000),
    oneWay("send burst, integers", integer, 10, 1000),
    oneWay("send burst, nested", nested, 3, 1000),
    arrived(),
    bytesRow("bytes 64 B awaited", 64, 20_000, 1),
    bytesRow("bytes 64 B burst", 64, 20_000, 6, "bytes", 1000),
    ...([["4 KiB", 4 * KIB, 4000], ["64 KiB", 64 * KIB, 1000], [
      "1 MiB",
      MIB,
      100,
    ], ["16 MiB", 16 * MIB, 6]] as const).flatMap(([label, size, count]) => [
      bytesRow(`bytes ${label}, recv_bytes`, size, count, 1),
      bytesRow(
        `bytes ${label}, recv_bytes_into`,
        size,
        count,
        1.3,
        "bytes into",
      ),
    ]),
    opening(),
  ];
}
