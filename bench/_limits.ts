// What the platform leaves to gain: bare ports that carry frames like the module's, and nothing of the module.
//
//     deno run -A bench/_limits.ts      or with bun, or node

import { fold, type Form } from "./_forms.ts";
import { measure, rate, type Way } from "./_rows.ts";
import { type Thread, thread } from "./_threads.ts";

let worker: Promise<Thread> | undefined;

async function open(
  form: Form,
  echo: boolean,
  count: number,
  how: { awaits?: boolean; part?: number } = {},
): Promise<[MessagePort, () => Promise<unknown>]> {
  const { post } = await (worker ??= thread("limits.ts"));
  const { port1, port2 } = new MessageChannel();
  let took: (data: unknown) => void;
  port1.onmessage = ({ data }) => took(data);
  post({ port: port2, form, echo, count, ...how }, [port2]);
  return [port1, () => new Promise((done) => took = done)];
}

/** There and back, one at a time. */
async function roundTrips(form: Form, value: unknown): Promise<Way> {
  const count = 5000;
  const [port, next] = await open(form, true, count);
  return {
    round: () =>
      rate(count, async () => {
        for (let i = 0; i < count; i++) {
          const answer = next();
          port.postMessage(fold(form, value));
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
 * `Promise.all` for each 1024; at the reader an awaited promise for each.
 */
async function calls<T>(copy: (i: number) => T): Promise<Way> {
  const count = 20_480;
  const each = 256;
  const [port, next] = await open("text", false, count / each, {
    awaits: true,
  });
  return {
    round: () =>
      rate(count, async () => {
        const done = next();
        for (let i = 0; i < count;) {
          const sent: Promise<void>[] = [];
          while (sent.length < 1024) {
            const frame: T[] = [];
            for (let j = 0; j < each; j++, i++) {
              frame.push(copy(i));
              sent.push(Promise.resolve());
            }
            port.postMessage(fold("text", frame));
          }
          await Promise.all(sent);
        }
        await done;
      }),
    end: () => port.close(),
  };
}

/** The same for bytes that share a buffer. */
async function byteCalls(size: number): Promise<Way> {
  const count = 20_480;
  const each = 256;
  const [port, next] = await open("tagged", false, count / each, {
    part: size,
  });
  const source = new Uint8Array(size).fill(7);
  return {
    round: () =>
      rate(count, async () => {
        const done = next();
        for (let i = 0; i < count;) {
          const sent: Promise<void>[] = [];
          while (sent.length < 1024) {
            const shared = new Uint8Array(each * size);
            for (let j = 0; j < each; j++, i++) {
              shared.set(source, j * size);
              sent.push(Promise.resolve());
            }
            const { buffer } = shared;
            port.postMessage(fold("tagged", buffer), [buffer]);
          }
          await Promise.all(sent);
        }
        await done;
      }),
    end: () => port.close(),
  };
}

/** Bytes that are cloned, or copied and transferred, alone or in a tagged list. */
async function bytes(size: number, tag: boolean, move: boolean): Promise<Way> {
  const count = Math.max(64, Math.min(4096, 32 * 1024 * 1024 / size));
  const [port, next] = await open(tag ? "tagged" : "bare", false, 16);
  const source = new Uint8Array(size).fill(7);
  return {
    round: () =>
      rate(count, async () => {
        for (let i = 0; i < count; i += 16) {
          const done = next(); // at most 16 are on their way
          for (let j = 0; j < 16; j++) {
            const { buffer } = move ? source.slice() : source;
            const frame = fold(tag ? "tagged" : "bare", buffer);
            if (move) port.postMessage(frame, [buffer]);
            else port.postMessage(frame);
          }
          await done;
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
    ["text, as calls", () => calls(copies[name]!)],
  ]);
}
for (const size of [64, 4096, 65_536, 1_048_576]) {
  await show(`${size} bytes`, [
    ["clone", () => bytes(size, false, false)],
    ["transfer", () => bytes(size, false, true)],
    ["tagged clone", () => bytes(size, true, false)],
    ["tagged transfer", () => bytes(size, true, true)],
    ...size < 1024
      ? [["256 a post, as calls", () => byteCalls(size)] as [
        string,
        () => Promise<Way>,
      ]]
      : [],
  ]);
}
(globalThis as unknown as { process: { exit(): void } }).process.exit();
