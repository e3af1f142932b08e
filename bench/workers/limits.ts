// The other side of `_limits.ts`: a bare port that unfolds the frame, and answers or counts.

import { BELL, fold, type Form, TAKEN, unfold } from "../_forms.ts";
import { listen } from "../_threads.ts";

/** What this worker is told to do. */
export interface Job {
  port: MessagePort;
  form: Form;
  /** Sends each value back; `"awaited"`: as a loop that waits for each does. */
  echo: boolean | "awaited";
  /** How many frames to take before it says so. */
  count: number;
  /** Awaits each value of a frame, as a receive makes its caller do. */
  awaits?: boolean;
  /** Likewise each part of so many bytes. */
  part?: number;
  /** Not that: asks for each item, waits for it, and says or not that it has it. */
  ask?: "plain" | "acknowledged";
  /** Takes what frames hold one by one, and counts it in shared words. */
  bound?: Int32Array;
  /** Takes each frame out of a promise. */
  promised?: boolean;
  /** Copies its bytes out; `back`: and answers with their buffers. */
  out?: "drop" | "back" | undefined;
}

/** Takes what a frame holds, each by a call. */
async function take(value: unknown, part: number): Promise<void> {
  if (part === 0) {
    for (const one of value as unknown[]) await Promise.resolve(one);
    return;
  }
  const bytes = new Uint8Array(value as ArrayBuffer);
  for (let at = 0; at < bytes.length; at += part) {
    await Promise.resolve(bytes.slice(at, at + part));
  }
}

/** Sends each value back, in a loop that waits for it. */
async function answer(port: MessagePort, form: Form): Promise<void> {
  let took: (value: unknown) => void;
  port.onmessage = ({ data }) => took(unfold(form, data));
  while (true) {
    port.postMessage(
      fold(form, await new Promise((done) => took = done)),
    );
  }
}

/** Takes items one by one; says before its caller has one that it is there, or not at all. */
async function ask(port: MessagePort, acknowledges: boolean): Promise<void> {
  let took: (item: unknown) => void;
  port.onmessage = ({ data }) => {
    if (acknowledges) port.postMessage(1); // before the caller has it
    took(data);
  };
  while (true) {
    const item = new Promise((done) => took = done);
    port.postMessage(0);
    await item;
  }
}

/** Takes items one by one; rings when it is asked to. */
function takeBounded({ port, form, count, bound: words }: Job): void {
  const came: unknown[][] = [];
  let wake: (() => void) | undefined;
  port.onmessage = ({ data }) => {
    came.push(unfold(form, data) as unknown[]);
    wake?.();
  };
  const take = async () => {
    for (let seen = 0;;) {
      const items = came.shift();
      if (!items) {
        await new Promise<void>((done) => wake = done);
        continue;
      }
      for (const item of items) {
        await Promise.resolve(item);
        Atomics.add(words!, TAKEN, 1);
        if (Atomics.load(words!, BELL) === 1) {
          Atomics.store(words!, BELL, 0);
          port.postMessage(0);
        }
        if (++seen % count === 0) port.postMessage(count);
      }
    }
  };
  take();
}

listen((data) => {
  if ((data as Job).bound) return takeBounded(data as Job);
  const { port, form, echo, count, awaits = false, part = 0 } = data as Job;
  const how = (data as Job).ask;
  if (how) return void ask(port, how === "acknowledged");
  if (echo === "awaited") return void answer(port, form);
  const { promised = false, out } = data as Job;
  let seen = 0;
  let target = new Uint8Array(0);
  let back: ArrayBuffer[] = [];
  const copyOut = (bytes: Uint8Array<ArrayBuffer>) => {
    if (target.length < bytes.length) target = new Uint8Array(bytes.length);
    target.set(bytes);
    if (out === "back") back.push(bytes.buffer);
  };
  const taken = (value: unknown) => {
    if (echo) return port.postMessage(fold(form, value));
    if (out) copyOut(new Uint8Array(value as ArrayBuffer));
    if (++seen % count !== 0) return;
    port.postMessage(out === "back" ? back : seen, back);
    back = [];
  };
  const came: unknown[] = [];
  let wake: ((value: unknown) => void) | undefined;
  const takeAll = async () => {
    while (true) {
      if (came.length > 0) taken(await Promise.resolve(came.shift()));
      else taken(await new Promise((done) => wake = done));
    }
  };
  if (promised) takeAll();
  port.onmessage = ({ data }) => {
    const value = unfold(form, data);
    if (promised) {
      if (wake) wake(value);
      else came.push(value);
      wake = undefined;
    } else if (awaits || part > 0) take(value, part).then(() => taken(value));
    else taken(value);
  };
});
