// Functions for `spawnTask` that use pipes.

import type { Connection } from "../../mod.ts";
import { EOFError, Pipe, Queue, unpack } from "../../mod.ts";
import { force, liveHolds, travelLoses, turn } from "../../_runtime.ts";
import { work } from "../_numbers.ts";
import { exit, inbox, nextMessage, post } from "../_worker.ts";

// deno-lint-ignore no-explicit-any
type Any = Connection<any>;

/** Sends back what it receives until the end of file. */
export async function echo({ conn }: { conn: Any }): Promise<string> {
  for await (const message of conn) await conn.send(message);
  conn.close();
  return "EOF";
}

/** Sends back bytes as it received them, until the end of file. */
export async function echoBytes({ conn }: { conn: Any }): Promise<number> {
  const buffer = new Uint8Array(1 << 20);
  let count = 0;
  try {
    for (;; count++) {
      if (count % 2 === 0) {
        const length = await conn.recv_bytes_into(buffer);
        await conn.send_bytes(buffer, 0, length);
        buffer.fill(0xee, 0, length); // what was sent is a copy
      } else {
        const bytes = await conn.recv_bytes();
        if (bytes.buffer.byteLength !== bytes.length) throw new Error("Shared");
        await conn.send_bytes(bytes);
        bytes.fill(0xee);
      }
    }
  } catch (error) {
    if (!(error instanceof EOFError)) throw error;
  }
  conn.close();
  return count;
}

/** Counts bytes until the end of file. */
export async function drainBytes({ conn }: { conn: Any }): Promise<number> {
  let total = 0;
  try {
    while (true) total += (await conn.recv_bytes()).length;
  } catch (error) {
    if (!(error instanceof EOFError)) throw error;
  }
  conn.close();
  return total;
}

/** Counts objects until the end of file. */
export async function countAll({ conn }: { conn: Any }): Promise<number> {
  let count = 0;
  for await (const _ of conn) count++;
  conn.close();
  return count;
}

/** Collects everything until the end of file. */
export async function collect({ conn }: { conn: Any }): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const message of conn) all.push(message);
  conn.close();
  return all;
}

/** Sends the numbers from 0 and ends without closing. */
export async function count(
  { conn, to }: { conn: Any; to: number },
): Promise<void> {
  for (let i = 0; i < to; i++) await conn.send(i);
}

/** Sends, and ends at once: `how` it is told. */
export async function sendAndEnd(
  { conn, how }: { conn: Any; how: "exit" | "throw" | "loop" | "burst" },
): Promise<void> {
  if (how === "burst") {
    const sent = [];
    for (let i = 0; i < 100; i++) sent.push(conn.send(i));
    await Promise.all(sent);
    exit();
    return await new Promise(() => {});
  }
  for (let i = 0; i < 100; i++) await conn.send(i);
  if (how === "exit") exit();
  if (how === "throw") {
    setTimeout(() => {
      throw new Error("Thrown on request");
    });
  }
  if (how === "loop") {
    // Until told by shared memory, this thread does not return to its events.
    const { words } = await nextMessage<{ words: Int32Array }>();
    await conn.send("looping");
    while (Atomics.load(words, 0) === 0);
  }
  await new Promise(() => {});
}

/** Holds what it was given, and what is posted to it, and does nothing with it. */
export async function holdIt(_args: unknown): Promise<void> {
  inbox(() => post("holding that too"));
  post("holding");
  await new Promise(() => {});
}

/** On pipe 1, then on pipe 2, then waits for the answer on 2: again and again. */
export async function firstOneThenTwo(
  { one, two, rounds }: { one: Any; two: Any; rounds: number },
): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    one.send(i);
    two.send(i);
    await two.recv();
  }
  one.close();
  two.close();
}

/** Answers, and then says so in shared memory. */
export async function answerAndFlag(
  { conn, words }: { conn: Any; words: Int32Array },
): Promise<void> {
  for await (const message of conn) {
    await conn.send(message);
    Atomics.store(words, 0, message);
  }
  conn.close();
}

/** Ends without closing, after a word. */
export async function sayAndVanish({ conn }: { conn: Any }): Promise<void> {
  await conn.send("bye");
}

/** Tries to send on a fresh end whose peer is gone. */
export async function sendFresh(
  { conn, go }: { conn: Any; go: Any },
): Promise<string[]> {
  await go.recv();
  const outcome = (error?: Error) => error ? error.name : "sent";
  const settled = await Promise.all(
    [conn.send(1), conn.send_bytes(new Uint8Array(1)), conn.send(2)].map((
      promise: Promise<void>,
    ) => promise.then(() => outcome(), outcome)),
  );
  conn.close();
  go.close();
  return settled;
}

/** Moves `conn` through `via` and ends at once. */
export async function moveAndEnd(
  { conn, via, take, send }: {
    conn: Any;
    via: Any;
    take: number;
    send: number;
  },
): Promise<void> {
  const got = [];
  for (let i = 0; i < take; i++) got.push(await conn.recv());
  for (let i = 0; i < send; i++) conn.send(i);
  via.send({ conn, got });
  exit();
  await new Promise(() => {});
}

/** Makes a pipe, sends one end of it away with something unread in it, and ends. */
export async function makeAndEnd(
  { via, count }: { via: Any; count: number },
): Promise<void> {
  const [a, b] = Pipe<number>();
  for (let i = 0; i < count; i++) await a.send(i);
  await via.send({ conn: b });
  exit();
  await new Promise(() => {});
}

/** Makes a queue and a pipe, sends them away, and ends; `alive` tells others. */
export async function giveAndEnd(
  { via, ...held }: { via: Any; alive: Any },
): Promise<void> {
  const queue = new Queue<number>();
  const [here, conn] = Pipe<number>();
  await via.send({ queue, conn });
  Object.assign(globalThis, { held, here });
  exit();
  await new Promise(() => {});
}

/** Replugs a connection with all that is queued in it; may end before any of it was passed on. */
export async function moveUnread(
  { via, end }: { via: Any; end: boolean },
): Promise<void> {
  force.replug = true;
  const { conn } = unpack<{ conn: Any }>(await nextMessage());
  conn.recv().catch(() => {}); // it is in use
  const sent = via.send({ conn });
  // In this turn, before anything is passed on; in Firefox the end itself would be lost.
  if (travelLoses()) await sent;
  if (end) exit();
  await new Promise(() => {});
}

/** Moves an end that is in use in the same moment as another thread moves the other one; may end at once. */
export async function moveTogether(
  { conn, via, words, end }: {
    conn: Any;
    via: Any;
    words: Int32Array;
    end: boolean;
  },
): Promise<void> {
  force.replug = true;
  await conn.send("used");
  await conn.recv();
  const meet = (word: number) => {
    Atomics.add(words, word, 1);
    while (Atomics.load(words, word) < 2);
  };
  meet(0);
  via.send({ conn });
  meet(1);
  if (end) exit();
  await new Promise(() => {});
}

interface PassOn {
  conn: Any;
  via: Any;
  replug: boolean;
}

/** Reads one message, so that the end is in use, passes it on, and waits until nothing keeps this thread alive. */
export async function readAndPassOn(args: PassOn): Promise<void> {
  force.replug = args.replug;
  await args.conn.recv();
  await passOn(args);
}

/** Likewise, but sends one. */
export async function sendAndPassOn(args: PassOn): Promise<void> {
  force.replug = args.replug;
  await args.conn.send("from its mover");
  await passOn(args);
}

async function passOn({ conn, via }: PassOn): Promise<void> {
  await via.send({ conn });
  via.close();
  while (liveHolds() > 0) await turn();
}

interface Order {
  id: number;
  op: "take" | "give" | "call" | "work" | "receive" | "moveTo";
  name: string;
  to?: string;
  conn?: Any;
  method?: string;
  args?: unknown[];
  from?: number;
  count?: number;
  most?: number;
  last?: boolean;
}

/** A thread that holds connections and does with them what it is told. */
export async function agent(
  { control, replug }: { control: Any; replug: boolean },
): Promise<void> {
  force.replug = replug;
  const held = new Map<string, Any>();
  const perform = async (order: Order): Promise<unknown> => {
    const conn = held.get(order.name)!;
    switch (order.op) {
      case "take":
        held.set(order.name, order.conn!);
        return;
      case "give":
        held.delete(order.name);
        return { conn };
      case "moveTo":
        held.delete(order.name);
        await held.get(order.to!)!.send({ conn });
        return;
      case "call":
        return await (conn as unknown as Record<
          string,
          (...args: unknown[]) => unknown
        >)[order.method!]!(...order.args ?? []);
      case "receive":
        held.set(order.to!, (await conn.recv()).conn);
        return;
      case "work": {
        const got = await work(conn, order);
        if (!order.last) held.delete(order.name);
        return order.last ? { got } : { got, conn };
      }
    }
  };
  for await (const order of control as Connection<Order>) {
    perform(order).then(
      (ok) => control.send({ id: order.id, ok }),
      (error) =>
        control.send({
          id: order.id,
          error: { name: error.name, message: error.message },
        }),
    );
  }
  for (const conn of held.values()) conn.close();
  control.close();
}

/** Gives an end away, reads what comes from it, and is gone. */
export async function read_once({ conn }: { conn: Any }): Promise<void> {
  const [a, b] = Pipe<number>();
  await conn.send({ b });
  await a.recv();
  exit();
}

/** Answers once on each end that it is sent, and closes it. */
export async function answer_once({ conn }: { conn: Any }): Promise<void> {
  for await (const message of conn) {
    const { reply } = message as { reply: Any };
    await reply.send(1);
    reply.close();
  }
  conn.close();
}
