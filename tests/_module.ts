// What the harness itself needs of the module under test.

interface Packing {
  pack(value: unknown): [message: unknown, transfer: Transferable[]];
  unpack<T>(message: unknown): T;
}

interface Counts {
  livePorts(): number;
  liveHolds(): number;
}

async function load<T>(path: string, otherwise: T): Promise<T> {
  try {
    return {
      ...otherwise,
      ...await import(new URL(path, import.meta.url).href),
    };
  } catch {
    return otherwise;
  }
}

const packing = await load<Packing>("../mod.ts", {
  pack: (value) => [value, []],
  unpack: <T>(message: unknown) => message as T,
});

const counts = await load<Counts>("../_endpoint.ts", {
  livePorts: () => 0,
  liveHolds: () => 0,
});

/** A message and its transfer list. */
export const pack: Packing["pack"] = packing.pack;
/** Live endpoints again. */
export const unpack: Packing["unpack"] = packing.unpack;
/** Open ports of this thread. */
export const livePorts: Counts["livePorts"] = counts.livePorts;
/** Keep-alive holds of this thread. */
export const liveHolds: Counts["liveHolds"] = counts.liveHolds;
