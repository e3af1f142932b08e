// What the harness itself needs of the module under test.

export { liveHolds, livePorts } from "../_endpoint.ts";

interface Packing {
  pack(value: unknown): [message: unknown, transfer: Transferable[]];
  unpack<T>(message: unknown): T;
}

async function load<T>(path: string, otherwise: T): Promise<T> {
  try {
    return {
      ...otherwise,
      ...await import(new URL(path, import.meta.url).href),
    };
  } catch (error) {
    // Plain values go a long way without the module, a broken one does not.
    if (!/not found|cannot find.*mod\.ts/i.test(String(error))) throw error;
    return otherwise;
  }
}

const packing = await load<Packing>("../mod.ts", {
  pack: (value) => [value, []],
  unpack: <T>(message: unknown) => message as T,
});

/** A message and its transfer list. */
export const pack: Packing["pack"] = packing.pack;
/** Live endpoints again. */
export const unpack: Packing["unpack"] = packing.unpack;
