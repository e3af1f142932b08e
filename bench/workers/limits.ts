// The other side of `_limits.ts`: a bare port that unfolds the frame, and answers or counts.

import { listen } from "../_threads.ts";

/** How a value travels: as it is, in a tagged list, or that list as text. */
export type Form = "bare" | "tagged" | "text";

/** What this worker is told to do. */
export interface Job {
  port: MessagePort;
  form: Form;
  /** Sends each value back. */
  echo: boolean;
  /** How many frames to take before it says so. */
  count: number;
}

const TAG = 1;

/** A value as it is posted. */
export function fold(form: Form, value: unknown): unknown {
  if (form === "bare") return value;
  return form === "text" ? JSON.stringify([TAG, value]) : [TAG, value];
}

/** What was folded. */
export function unfold(form: Form, data: unknown): unknown {
  if (form === "bare") return data;
  return (form === "text" ? JSON.parse(data as string) : data)[1];
}

listen((data) => {
  const { port, form, echo, count } = data as Job;
  let seen = 0;
  port.onmessage = ({ data }) => {
    const value = unfold(form, data);
    if (echo) port.postMessage(fold(form, value));
    else if (++seen % count === 0) port.postMessage(value);
  };
});
