// Preloaded into Node (`--import`), in worker threads too: finds the stand-ins for `@std/*`.
import { registerHooks } from "node:module";

const stand_ins = new Map([
  ["@std/assert", new URL("./assert.ts", import.meta.url).href],
  ["@std/async", new URL("./async.ts", import.meta.url).href],
]);

registerHooks({
  resolve(specifier, context, nextResolve) {
    return nextResolve(stand_ins.get(specifier) ?? specifier, context);
  },
});
