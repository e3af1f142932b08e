/** What the harness needs of the module itself. */

export { liveHolds, livePorts } from "../_endpoint.ts";
export { pack, unpack } from "../mod.ts";
