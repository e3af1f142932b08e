// Functions for `spawnTask` that use pipes.

import type { Connection } from "../../mod.ts";
import { EOFError } from "../../mod.ts";

type Any = Connection<unknown>;

/** Sends back what it receives until the end of file. */
export async function echo({ conn }: { conn: Any }): Promise<string> {
  for await (const message of conn) await conn.send(message);
  conn.close();
  return "EOF";
}

/** Collects everything until the end of file. */
export async function collect({ conn }: { conn: Any }): Promise<unknown[]> {
  const all: unknown[] = [];
  try {
    while (true) all.push(await conn.recv());
  } catch (error) {
    if (!(error instanceof EOFError)) throw error;
  }
  conn.close();
  return all;
}

/** Sends the numbers from 0 and ends without closing. */
export async function count(
  { conn, to }: { conn: Any; to: number },
): Promise<void> {
  for (let i = 0; i < to; i++) await conn.send(i);
}

/** Passes a connection on. */
export async function relay(
  { conn, via }: { conn: Any; via: Any },
): Promise<void> {
  await via.send({ conn });
  via.close();
}
