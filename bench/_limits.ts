// What the platform leaves to gain: bare ports that carry frames like the module's, and nothing of the module.
//
//     deno run -A bench/_limits.ts [where comlink is]      or with bun, or node

import { BELL, fold, type Form, TAKEN } from "./_forms.ts";
import { measure, rate, type Way } from "./_rows.ts";
import { type Thread, thread } from "./_threads.ts";
import type { Job } from "./workers/limits.ts";

let worker: Promise<Thread> | undefined;

async function open(
  form: Form,
  echo: boolean | "awaited",
  count: number,
  how: Partial<Job> = {},
): Promise<[MessagePort, () => Promise<unknown>]> {
  const { post } = await (worker ??= thread("limits.ts"));
  const { port1, port2 } = new MessageChannel();
  let took: (data: unknown) => void;
  port1.onmessage = ({ data }) => took(data);
  post({ port: port2, form, echo, count, ...how }, [port2]);
  return [port1, () => new Promise((done) => took = done)];
}

/** There and back, one at a time. */
async function roundTrips(
  form: Form,
  value: unknown,
  echo: true | "awaited" = true,
): Promise<Way> {
  const count = 5000;
  const [port, next] = await open(form, echo, count);
  return {
    round: () =>
      rate(count, async () => {
        for (let i = 0; i < count; i++) {
          const answer = next();
          port.postMessage(fold(form, value));
          if (echo === "awaited") await undefined;
          await answer;
        }
      }),
    end: () => port.close(),
  };
}

/** One way; `each` of the values make a frame. */
async function oneWay(
  form: Form,
  value: unknown,
  each: number,
  awaited: boolean,
): Promise<Way> {
  const count = 20_480;
  const [port, next] = await open(form, false, count / each);
  // No object twice: a clone would keep the second as a reference.
  const values = Array.from({ length: each }, () => structuredClone(value));
  const frame = each === 1 ? value : values;
  return {
    round: () =>
      rate(count, async () => {
        const done = next();
        for (let i = 0; i < count; i += each) {
          port.postMessage(fold(form, frame));
          if (awaited) await undefined;
        }
        await done;
      }),
    end: () => port.close(),
  };
}

/**
 * The same as calls: at the sender a copy and a promise for each message, and
 * `Promise.all` for each 1024; at the reader, which is told `how`, an awaited
 * promise for each. `frame` makes a frame of 256: it calls `sent` for each.
 */
async function calls(
  form: Form,
  how: { awaits?: boolean; part?: number },
  frame: (
    first: number,
    each: number,
    sent: () => void,
  ) => [value: unknown, transfer?: Transferable[]],
): Promise<Way> {
  const count = 20_480;
  const each = 256;
  const [port, next] = await open(form, false, count / each, how);
  return {
    round: () =>
      rate(count, async () => {
        const done = next();
        for (let i = 0; i < count;) {
          const sent: Promise<void>[] = [];
          while (sent.length < 1024) {
            const [value, transfer = []] = frame(
              i,
              each,
              () => sent.push(Promise.resolve()),
            );
            port.postMessage(fold(form, value), transfer);
            i += each;
          }
          await Promise.all(sent);
        }
        await done;
      }),
    end: () => port.close(),
  };
}

/** Objects that share a post, as text. */
function objectCalls(copy: (i: number) => unknown): Promise<Way> {
  return calls("text", { awaits: true }, (first, each, sent) => {
    const values: unknown[] = [];
    for (let i = first; i < first + each; i++) {
      values.push(copy(i));
      sent();
    }
    return [values];
  });
}

/** Bytes that share a buffer. */
function byteCalls(size: number): Promise<Way> {
  const source = new Uint8Array(size).fill(7);
  return calls("tagged", { part: size }, (_, each, sent) => {
    const shared = new Uint8Array(each * size);
    for (let i = 0; i < each; i++) {
      shared.set(source, i * size);
      sent();
    }
    return [shared.buffer, [shared.buffer]];
  });
}

/** Arrays of 64 bytes, made of the parts of a buffer. */
function arrays(
  make: (shared: Uint8Array, at: number) => Uint8Array,
): Promise<Way> {
  const count = 65_536;
  const shared = new Uint8Array(256 * 64);
  const kept: Uint8Array[] = [];
  return Promise.resolve({
    round: () =>
      rate(count, () => {
        for (let i = 0; i < count; i++) {
          kept[i % 256] = make(shared, i % 256 * 64);
        }
      }),
  });
}

/** How a message of bytes is posted, and taken. */
interface Manner {
  /** A copy of it is transferred; else the platform clones it. */
  move?: boolean;
  /** In a tagged list. */
  tag?: boolean;
  /** Each post is awaited, and each message taken out of a promise. */
  promised?: boolean;
  /** The reader copies the bytes out; `back`: and returns the buffers to be used again. */
  out?: "drop" | "back";
}

/** Bytes of some size, 16 on their way at most. */
async function bytes(
  size: number,
  { move = false, tag = false, promised = false, out }: Manner,
): Promise<Way> {
  const count = Math.max(16, Math.min(4096, 64 * 1024 * 1024 / size));
  const form = tag ? "tagged" : "bare";
  const [port, next] = await open(form, false, 16, { promised, out });
  const source = new Uint8Array(size).fill(7);
  let back: ArrayBuffer[] = [];
  const copied = () => {
    const chunk = back.pop();
    if (chunk === undefined) return source.slice().buffer;
    new Uint8Array(chunk).set(source);
    return chunk;
  };
  return {
    round: () =>
      rate(count, async () => {
        for (let i = 0; i < count; i += 16) {
          const done = next();
          for (let j = 0; j < 16; j++) {
            const buffer = move ? copied() : source.buffer;
            const frame = fold(form, buffer);
            if (move) port.postMessage(frame, [buffer]);
            else port.postMessage(frame);
            if (promised) await undefined;
          }
          const answer = await done;
          if (out === "back") back = answer as ArrayBuffer[];
        }
      }),
    end: () => port.close(),
  };
}

const flat = { id: 12_345, name: "xiao" };
const nested = {
  id: 12_345,
  user: { name: "xiao", tags: ["a", "b"] },
  at: { x: 12_345, y: -12_345 },
};
const forms = ["bare", "tagged", "text"] as const;

async function show(
  name: string,
  ways: [string, () => Promise<Way>][],
): Promise<void> {
  const { rates } = await measure({
    name,
    unit: "messages",
    floor: [],
    ways: Object.fromEntries(ways),
  }, 9);
  const [first] = Object.values(rates);
  const all = Object.entries(rates).map(([way, rate]) =>
    `${way} ${(rate / first!).toFixed(2)}`
  );
  console.log(`${name}: ${Math.round(first!)}/s = 1; ${all.join(", ")}`);
}

await show(
  "round trip, {id, name}",
  forms.map((form) => [form, () => roundTrips(form, flat)]),
);
await show(
  "one way awaited, {id, name}",
  forms.map((form) => [form, () => oneWay(form, flat, 1, true)]),
);
const copies: Record<string, (i: number) => unknown> = {
  integers: (i) => i,
  flat: (id) => ({ id, name: flat.name }),
  nested: (i) => ({
    id: i,
    user: { name: flat.name, tags: [...nested.user.tags] },
    at: { x: i, y: -i },
  }),
};
for (const [name, value] of Object.entries({ integers: 5, flat, nested })) {
  await show(`one way, 256 a post, ${name}`, [
    ["bare, one a post", () => oneWay("bare", value, 1, false)],
    ["tagged", () => oneWay("tagged", value, 256, false)],
    ["text", () => oneWay("text", value, 256, false)],
    ["text, as calls", () => objectCalls(copies[name]!)],
  ]);
}
const manners: Record<string, Manner> = {
  "clone": {},
  "transfer": { move: true },
  "tagged clone": { tag: true },
  "tagged transfer": { tag: true, move: true },
  "tagged clone, awaited": { tag: true, promised: true },
  "tagged transfer, awaited": { tag: true, move: true, promised: true },
};
const out: Record<string, Manner> = {
  "clone": { out: "drop" },
  "transfer": { move: true, out: "drop" },
  "tagged clone, awaited": { tag: true, promised: true, out: "drop" },
  "sent back, awaited": { tag: true, move: true, promised: true, out: "back" },
};
for (const size of [64, 4096, 65_536, 1_048_576, 16_777_216]) {
  const ways = (
    manners: Record<string, Manner>,
  ): [string, () => Promise<Way>][] =>
    Object.entries(manners).map((
      [name, how],
    ) => [name, () => bytes(size, how)]);
  await show(`${size} bytes`, ways(manners));
  await show(`${size} bytes, copied out`, ways(out));
  if (size > 64) continue;
  await show(`${size} bytes, 256 a post`, [
    ["clone, one a post", () => bytes(size, {})],
    ["as calls", () => byteCalls(size)],
  ]);
}
await show("an array of 64 bytes", [
  [
    "a view of a shared buffer",
    () => arrays((shared, at) => shared.subarray(at, at + 64)),
  ],
  [
    "a copy, in a buffer of its own",
    () => arrays((shared, at) => shared.slice(at, at + 64)),
  ],
]);

// --- A get without shared memory, an integer there and back, comlink ------------------

/** A request loop: the worker asks for each item, and may say that it has it. */
async function requests(how: "plain" | "acknowledged"): Promise<Way> {
  const count = 4000;
  const { post } = await (worker ??= thread("limits.ts"));
  const { port1, port2 } = new MessageChannel();
  let left = 0;
  let asked = false;
  let done: (value?: unknown) => void;
  const answer = () => {
    if (!asked || left < 0) return;
    if (left-- === 0) return done();
    asked = false;
    port1.postMessage({ id: left, name: "xiao" });
  };
  port1.onmessage = ({ data }) => {
    if (data !== 0) return;
    asked = true;
    answer();
  };
  left = -1;
  post({ port: port2, form: "bare", echo: false, count, ask: how }, [port2]);
  return {
    round: () =>
      rate(count, () => {
        left = count;
        const end = new Promise((resolve) => done = resolve);
        answer();
        return end;
      }),
    end: () => port1.close(),
  };
}

await show("a request loop", [
  ["plain", () => requests("plain")],
  ["acknowledged", () => requests("acknowledged")],
]);
await show("round trip, integer", [
  ["bare", () => roundTrips("bare", 5)],
  ["tagged", () => roundTrips("tagged", 5)],
  ["text", () => roundTrips("text", 5)],
  ["bare, awaited", () => roundTrips("bare", 5, "awaited")],
  ["tagged, awaited", () => roundTrips("tagged", 5, "awaited")],
  ["text, awaited", () => roundTrips("text", 5, "awaited")],
]);

// --- A bound ------------------------------------------------------------------------------

/** Items that share posts, taken one by one with `await`; at most `most` that have not been taken. */
async function bounded(most: number): Promise<Way> {
  const count = 200_000;
  const each = 32;
  const { post } = await (worker ??= thread("limits.ts"));
  const { port1, port2 } = new MessageChannel();
  const words = new Int32Array(new SharedArrayBuffer(128));
  let wake: (data: unknown) => void;
  port1.onmessage = ({ data }) => wake(data);
  const woken = () => new Promise<unknown>((done) => wake = done);
  const job: Job = {
    port: port2,
    form: "text",
    echo: false,
    count,
    bound: words,
  };
  post(job, [port2]);
  return {
    round: () =>
      rate(count, async () => {
        Atomics.store(words, TAKEN, 0);
        let frame: unknown[] = [];
        const flush = () => {
          if (frame.length > 0) port1.postMessage(fold("text", frame));
          frame = [];
        };
        for (let i = 0; i < count; i++) {
          while (i - Atomics.load(words, TAKEN) >= most) {
            flush();
            Atomics.store(words, BELL, 1);
            if (i - Atomics.load(words, TAKEN) >= most) await woken();
          }
          frame.push({ id: i, name: "xiao" });
          if (frame.length === each) flush();
          await undefined;
        }
        flush();
        while (await woken() !== count);
      }),
    end: () => port1.close(),
  };
}

await show("32 in a post, each awaited", [
  ["no bound", () => bounded(Infinity)],
  ["at most 1000", () => bounded(1000)],
]);

/** Copies that wait in a plain array, taken with `await`. */
async function waiting(count: number): Promise<Way> {
  await undefined;
  const lists = Math.max(1, 100_000 / count);
  return {
    round: async () => {
      let spent = 0;
      for (let i = 0; i < lists; i++) {
        const source = Array.from({ length: count }, (_, id) => ({
          id,
          name: "xiao",
        }));
        const list: unknown[] = source.map((item) => ({ ...item }));
        const start = performance.now();
        for (let at = 0; at < count; at++) {
          await Promise.resolve(list[at]);
          list[at] = undefined;
        }
        spent += performance.now() - start;
      }
      return (lists * count) / (spent / 1000);
    },
  };
}

await show("a plain array", [
  ["a thousand", () => waiting(1000)],
  ["a million", () => waiting(1_000_000)],
]);

const { process } = globalThis as unknown as {
  process: { argv: string[]; exit(): void };
};
const peers = process.argv[2];

/** A call of comlink, which is one exchange over a bare port. */
async function comlink(value: unknown): Promise<Way> {
  const url = `${peers}/comlink/dist/esm/comlink.mjs`;
  const { wrap } = await import(url) as {
    wrap(port: MessagePort): { echo(value: unknown): Promise<unknown> };
  };
  const { post } = await thread("peers.ts");
  const { port1, port2 } = new MessageChannel();
  post({ peer: "comlink", url, port: port2 }, [port2]);
  const api = wrap(port1);
  const count = 5000;
  return {
    round: () =>
      rate(count, async () => {
        for (let i = 0; i < count; i++) await api.echo(value);
      }),
    end: () => port1.close(),
  };
}

if (peers) {
  await show("a call of comlink, {id, name}", [
    ["comlink", () => comlink(flat)],
    ["bare", () => roundTrips("bare", flat)],
    ["text", () => roundTrips("text", flat)],
  ]);
}
process.exit();
