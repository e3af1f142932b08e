// Endpoints handed over within one thread.

import { pack, unpack } from "../mod.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

/** Hands a value over within this thread, as through any port. */
export function local<T>(value: T): Promise<T> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((done) => {
    port2.onmessage = ({ data }) => {
      port1.close();
      port2.close();
      done(unpack<T>(data));
    };
    port1.postMessage(...pack(value) as [Any, Any]);
  });
}
