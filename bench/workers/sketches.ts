// The other side of `_sketches.ts`: bare ports, whose messages are taken as any module's are, each out of a promise.

import { BELL, fold, TAKEN, unfold } from "../_forms.ts";
import { listen } from "../_threads.ts";

/** What this worker is told to do. */
export interface SketchJob {
  port: MessagePort;
  /**
   * Send each back; take `count`, say so, and again; ask for each, and say that
   * it is there before its caller has it; post `count` when told to, awaiting
   * each; or take what is counted in shared words.
   */
  work: "echo" | "take" | "ask" | "put" | "bound";
  /** Frames are text. */
  text: boolean;
  count: number;
  /** A frame holds several: bytes of this size each, or (0) a list of values. */
  part?: number;
  /** After so many frames say that there is room for as many. */
  step?: number;
  /** Frames hold the bytes of one message; `"into"`: copies them out, and sends their buffers back with that. */
  bytes?: boolean | "into";
  words?: Int32Array;
}

/** Takes values of frames, each out of a promise. */
function taker({ port, text }: SketchJob): () => Promise<unknown> {
  let came: unknown[] = [];
  let at = 0;
  let wake: ((value: unknown) => void) | undefined;
  port.onmessage = ({ data }) => {
    const value = unfold(text, data);
    if (wake === undefined) return void came.push(value);
    const done = wake;
    wake = undefined;
    done(value);
  };
  return () => {
    if (at < came.length) return Promise.resolve(came[at++]);
    came = [];
    at = 0;
    return new Promise((done) => wake = done);
  };
}

async function echo(job: SketchJob): Promise<void> {
  const next = taker(job);
  while (true) job.port.postMessage(fold(job.text, await next()));
}

function bytesOf(value: unknown): Uint8Array<ArrayBuffer> {
  if (typeof value !== "string") return new Uint8Array(value as ArrayBuffer);
  const bytes = new Uint8Array(value.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = value.charCodeAt(i);
  return bytes;
}

async function take(job: SketchJob): Promise<void> {
  const { port, count, part, bytes, step = 0 } = job;
  const next = taker(job);
  let target = new Uint8Array(0);
  let back: ArrayBuffer[] = [];
  const parts = async (value: unknown) => {
    if (part === 0) {
      for (const one of value as unknown[]) await Promise.resolve(one);
      return;
    }
    const all = bytesOf(value);
    for (let at = 0; at < all.length; at += part!) {
      await Promise.resolve(all.slice(at, at + part!));
    }
  };
  for (let seen = 1;; seen++) {
    const value = await next();
    if (part !== undefined) await parts(value);
    const message = bytes ? bytesOf(value) : undefined;
    if (message && bytes === "into") {
      if (target.length < message.length) {
        target = new Uint8Array(message.length);
      }
      target.set(message);
      back.push(message.buffer);
    }
    if (seen % step === 0) { // never, if that is 0
      port.postMessage([step, back], back);
      back = [];
    }
    if (seen % count === 0) port.postMessage("done");
  }
}

async function ask(job: SketchJob): Promise<void> {
  const { port, count } = job;
  let took: (item: unknown) => void;
  port.onmessage = ({ data }) => {
    port.postMessage("here"); // before its caller has it
    took(data);
  };
  for (let seen = 1;; seen++) {
    const item = new Promise((done) => took = done);
    port.postMessage("next");
    await item;
    if (seen % count === 0) port.postMessage("done");
  }
}

async function put(job: SketchJob): Promise<void> {
  const { port, text, count } = job;
  const next = taker(job);
  while (true) {
    await next();
    for (let id = 0; id < count; id++) {
      port.postMessage(fold(text, { id, name: "xiao" }));
      await undefined;
    }
  }
}

/** Takes items one by one, counts them, and rings when it is asked to. */
async function takeBounded(job: SketchJob): Promise<void> {
  const { port, count, words } = job;
  const next = taker(job);
  for (let seen = 1;;) {
    for (const item of await next() as unknown[]) {
      await Promise.resolve(item);
      Atomics.add(words!, TAKEN, 1);
      if (Atomics.load(words!, BELL) === 1) {
        Atomics.store(words!, BELL, 0);
        port.postMessage("room");
      }
      if (seen++ % count === 0) port.postMessage("done");
    }
  }
}

const works = { echo, take, ask, put, bound: takeBounded };

listen((data) => void works[(data as SketchJob).work](data as SketchJob));
