// The other side of `_limits.ts`: a bare port that unfolds the frame, and answers or counts.

import { fold, type Form, unfold } from "../_forms.ts";
import { listen } from "../_threads.ts";

/** What this worker is told to do. */
export interface Job {
  port: MessagePort;
  form: Form;
  /** Sends each value back. */
  echo: boolean;
  /** How many frames to take before it says so. */
  count: number;
  /** Awaits each value of a frame, as a receive makes its caller do. */
  awaits?: boolean;
  /** Likewise each part of so many bytes. */
  part?: number;
}

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

listen((data) => {
  const { port, form, echo, count, awaits = false, part = 0 } = data as Job;
  let seen = 0;
  const taken = (value: unknown) => {
    if (echo) port.postMessage(fold(form, value));
    else if (++seen % count === 0) port.postMessage(value);
  };
  port.onmessage = ({ data }) => {
    const value = unfold(form, data);
    if (awaits || part > 0) take(value, part).then(() => taken(value));
    else taken(value);
  };
});
