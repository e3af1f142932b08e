/** What the harness needs of the module itself. */

export { pack, unpack } from "../mod.ts";
export { liveHolds, livePorts } from "../_runtime.ts";
