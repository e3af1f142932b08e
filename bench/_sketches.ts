// What bounds a row: its work over bare ports, with nothing of the module, and no more than what any module with
// these calls has to do. Each frame is tagged, each send is awaited, each message is taken out of a promise.

import { BELL, fold, TAKEN } from "./_forms.ts";
import { rate, type Way } from "./_rows.ts";
import { type Thread, thread } from "./_threads.ts";
import type { SketchJob } from "./workers/sketches.ts";

type Made = () => Promise<Way>;

let worker: Promise<Thread> | undefined;

/** A bare port whose other side does a job; `next()` resolves to the next thing it says. */
async function connect(
  job: Omit<SketchJob, "port">,
): Promise<[MessagePort, next: () => Promise<unknown>]> {
  const { post } = await (worker ??= thread("sketches.ts"));
  const { port1, port2 } = new MessageChannel();
  post({ ...job, port: port2 }, [port2]);
  let took: (data: unknown) => void = () => {};
  port1.onmessage = ({ data }) => took(data);
  return [port1, () => new Promise((done) => took = done)];
}

/** There and back, one at a time, as text. */
export function roundTrips(count: number, value: (i: number) => unknown): Made {
  return async () => {
    const [port, next] = await connect({ work: "echo", text: true, count });
    return {
      round: () =>
        rate(count, async () => {
          for (let i = 0; i < count; i++) {
            const answer = next();
            port.postMessage(fold(true, value(i)));
            await undefined;
            JSON.parse(await answer as string);
          }
        }),
      end: () => port.close(),
    };
  };
}

/** One way, each awaited, as text. */
export function oneByOne(count: number, value: (i: number) => unknown): Made {
  return async () => {
    const [port, next] = await connect({ work: "take", text: true, count });
    return {
      round: () =>
        rate(count, async () => {
          const done = next();
          for (let i = 0; i < count; i++) {
            port.postMessage(fold(true, value(i)));
            await undefined;
          }
          await done;
        }),
      end: () => port.close(),
    };
  };
}

const EACH = 250;
const BURST = 1000;

/**
 * Several in a post; at the sender a copy and a promise for each, and
 * `Promise.all` for each burst. `frame` makes one, and calls `sent` for each.
 */
function shared(
  count: number,
  text: boolean,
  part: number,
  frame: (first: number, sent: () => void) => [unknown, Transferable[]?],
): Made {
  return async () => {
    const [port, next] = await connect({
      work: "take",
      text,
      count: count / EACH,
      part,
    });
    return {
      round: () =>
        rate(count, async () => {
          const done = next();
          for (let i = 0; i < count;) {
            const sent: Promise<void>[] = [];
            for (; sent.length < BURST; i += EACH) {
              const [value, transfer = []] = frame(
                i,
                () => sent.push(Promise.resolve()),
              );
              port.postMessage(fold(text, value), transfer);
            }
            await Promise.all(sent);
          }
          await done;
        }),
      end: () => port.close(),
    };
  };
}

/** Objects that share a post, as text. */
export function bursts(count: number, value: (i: number) => unknown): Made {
  return shared(count, true, 0, (first, sent) => {
    const values: unknown[] = [];
    for (let i = first; i < first + EACH; i++) {
      values.push(value(i));
      sent();
    }
    return [values];
  });
}

/** Bytes that share a buffer, which is transferred. */
export function byteBursts(count: number, size: number): Made {
  const source = new Uint8Array(size).fill(7);
  return shared(count, false, size, (_, sent) => {
    const { buffer } = new Uint8Array(EACH * size);
    for (let i = 0; i < EACH; i++) {
      new Uint8Array(buffer).set(source, i * size);
      sent();
    }
    return [buffer, [buffer]];
  });
}

/** How a message of bytes travels: as the platform's clone, as a copy that is transferred, or as text. */
export type Travel = "clone" | "transfer" | "text";

/**
 * Bytes, a message a post, of which at most `window` are on their way.
 *
 * @param into The reader copies the bytes out, and sends the buffers back, to be used again.
 */
export function bytes(
  count: number,
  size: number,
  travel: Travel,
  window: number,
  into = false,
): Made {
  return async () => {
    const text = travel === "text";
    const step = Math.ceil(window / 2);
    const [port] = await connect({
      work: "take",
      text,
      count,
      step,
      bytes: into ? "into" : true,
    });
    const source = new Uint8Array(size).fill(7);
    const back: ArrayBuffer[] = [];
    let room = window || Infinity;
    let wake = () => {};
    let end = () => {};
    port.onmessage = ({ data }) => {
      if (data === "done") return end();
      room += data[0];
      if (travel === "transfer") back.push(...data[1]);
      wake();
    };
    const moved = () => {
      const chunk = back.pop();
      if (chunk === undefined) return source.slice().buffer;
      new Uint8Array(chunk).set(source);
      return chunk;
    };
    const post = () => {
      if (text) {
        port.postMessage(fold(true, String.fromCharCode(...source)));
      } else if (travel === "clone") {
        port.postMessage(fold(false, source.buffer));
      } else {
        const buffer = moved();
        port.postMessage(fold(false, buffer), [buffer]);
      }
    };
    return {
      round: () =>
        rate(count, async () => {
          const done = new Promise<void>((resolve) => end = resolve);
          for (let i = 0; i < count; i++) {
            if (room <= 0) await new Promise<void>((done) => wake = done);
            room--;
            post();
            await undefined;
          }
          await done;
        }),
      end: () => port.close(),
    };
  };
}

// --- Queues ------------------------------------------------------------------------

/** A loop whose worker asks for each item, and says that it has it before its caller has: else two might. */
export function requests(count: number): Made {
  return async () => {
    const [port] = await connect({ work: "ask", text: false, count });
    let left = 0;
    let asked = false;
    let end = () => {};
    const answer = () => {
      if (!asked || left === 0) return;
      asked = false;
      port.postMessage({ id: left--, name: "xiao" });
    };
    port.onmessage = ({ data }) => {
      if (data === "done") return end();
      if (data !== "next") return;
      asked = true;
      answer();
    };
    return {
      round: () =>
        rate(count, () => {
          const done = new Promise<void>((resolve) => end = resolve);
          left = count;
          answer();
          return done;
        }),
      end: () => port.close(),
    };
  };
}

/** A worker posts items, as text, and awaits each: the way to a queue's owner. */
export function posts(count: number): Made {
  return async () => {
    const [port] = await connect({ work: "put", text: true, count });
    const came: unknown[] = [];
    let wake: ((item: unknown) => void) | undefined;
    port.onmessage = ({ data }) => {
      const [, item] = JSON.parse(data);
      if (!wake) return void came.push(item);
      const done = wake;
      wake = undefined;
      done(item);
    };
    return {
      round: () =>
        rate(count, async () => {
          port.postMessage(fold(true, "go"));
          for (let i = 0; i < count; i++) {
            if (came.length > 0) await Promise.resolve(came.shift());
            else await new Promise((done) => wake = done);
          }
        }),
      end: () => port.close(),
    };
  };
}

/** Items of 32 a post, taken one by one with `await` and counted in shared words; at most `most` that are not taken. */
export function bounded(count: number, most: number = Infinity): Made {
  return async () => {
    const words = new Int32Array(new SharedArrayBuffer(128));
    const job = { work: "bound", text: true, count, words } as const;
    const [port] = await connect(job);
    let wake = () => {};
    let end = () => {};
    port.onmessage = ({ data }) => data === "done" ? end() : wake();
    return {
      round: () =>
        rate(count, async () => {
          Atomics.store(words, TAKEN, 0);
          const done = new Promise<void>((resolve) => end = resolve);
          let frame: unknown[] = [];
          const flush = () => {
            if (frame.length > 0) port.postMessage(fold(true, frame));
            frame = [];
          };
          for (let i = 0; i < count; i++) {
            while (i - Atomics.load(words, TAKEN) >= most) {
              flush();
              const rung = new Promise<void>((resolve) => wake = resolve);
              Atomics.store(words, BELL, 1);
              if (i - Atomics.load(words, TAKEN) >= most) await rung;
            }
            frame.push({ id: i, name: "xiao" });
            if (frame.length === 32) flush();
            await undefined;
          }
          flush();
          await done;
        }),
      end: () => port.close(),
    };
  };
}

/** Copies that wait in a plain array, taken with `await`. */
export function arrayOf(count: number): Made {
  const lists = Math.max(1, 100_000 / count);
  const round = async () => {
    let spent = 0;
    for (let i = 0; i < lists; i++) {
      const source = Array.from(
        { length: count },
        (_, id) => ({ id, name: "xiao" }),
      );
      const list: unknown[] = source.map((item) => ({ ...item }));
      const start = performance.now();
      for (let at = 0; at < count; at++) {
        await Promise.resolve(list[at]);
        list[at] = undefined;
      }
      spent += performance.now() - start;
    }
    return (lists * count) / (spent / 1000);
  };
  return () => Promise.resolve({ round });
}
