// Numbers as messages of all kinds, to see that none is lost and their order is kept.

import type { Connection } from "../mod.ts";

// deno-lint-ignore no-explicit-any
type Any = Connection<any>;

/** Sends numbers, some as bytes, and receives what is there, up to `most`. */
export async function work(
  conn: Any,
  { from = 0, count = 0, most = 0 }: {
    from?: number;
    count?: number;
    most?: number;
  },
): Promise<number[]> {
  for (let i = from; i < from + count; i++) {
    if (i % 5 < 2) conn.send_bytes(Uint32Array.of(i)).catch(() => {});
    else conn.send(i % 7 === 0 ? { i, pad: [i] } : i).catch(() => {});
  }
  const got: number[] = [];
  while (got.length < most && await conn.poll()) {
    got.push(await receiveNumber(conn));
  }
  return got;
}

/** The next number that {@linkcode work} has sent. */
export async function receiveNumber(conn: Any): Promise<number> {
  try {
    const value = await conn.recv();
    return typeof value === "number" ? value : value.i;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const bytes = await conn.recv_bytes();
    return new Uint32Array(bytes.buffer)[0]!;
  }
}
