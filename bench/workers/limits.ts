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
