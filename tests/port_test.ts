// One port, and what a runtime may do with it.

import { assertEquals } from "@std/assert";
import { openChannel, type OpenPort } from "../_port.ts";
import { startedPortsTravel } from "../_runtime.ts";
import { OBJECT } from "../_wire.ts";
import { test } from "./_harness.ts";
import { builtin } from "./_runtime.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

const later = () => new Promise((done) => setTimeout(done, 10));

/** What a port tells its listener. */
function heard(port: OpenPort): unknown[] {
  const all: unknown[] = [];
  port.start({
    frame: (_, data) => void all.push(data),
    gone: () => {
      all.push("gone");
      port.close();
    },
  });
  return all;
}

test(
  "OpenPort that hears of the end before it starts tells what is queued first",
  async () => {
    const [near, far] = openChannel();
    far.post([OBJECT, "queued"]);
    // As in Bun, for a port that nobody reads.
    near.raw.dispatchEvent(new Event("close"));
    const all = heard(near);
    await later();
    // Where a port tells no one before it starts.
    near.raw.dispatchEvent(new Event("close"));
    assertEquals(all, [[OBJECT, "queued"], "gone"]);
    near.close();
    far.close();
  },
  { needs: ["processes"] },
);

test(
  "OpenPort that is closed before, or while it tells what is queued, tells no more",
  async () => {
    for (const first of [true, false]) {
      const [near, far] = openChannel();
      far.post([OBJECT, 1]);
      far.post([OBJECT, 2]);
      near.raw.dispatchEvent(new Event("close"));
      const all: unknown[] = [];
      near.start({
        frame(_, data) {
          all.push(data);
          near.close();
        },
        gone: () => all.push("gone"),
      });
      if (first) near.close();
      await later();
      near.close();
      const untold = first && startedPortsTravel();
      assertEquals(all, untold ? [] : [[OBJECT, 1]]);
      far.close();
    }
  },
  { needs: ["processes"] },
);

test("OpenPort is lost with a message that cannot be read", async () => {
  const threads = builtin<Any>("node:worker_threads");
  const { receiveMessageOnPort } = threads;
  let unreadable: unknown;
  let asked = false;
  threads.receiveMessageOnPort = (port: unknown) => {
    if (port === unreadable && !asked) {
      asked = true;
      throw new Error("Cannot be read");
    }
    return receiveMessageOnPort(port);
  };
  try {
    // One that has not looked yet how messages are taken.
    const url = new URL("../_port.ts?unreadable", import.meta.url);
    const fresh = await import(url.href);
    const [near, far] = fresh.openChannel();
    unreadable = near.raw;
    far.post([OBJECT, "first"]);
    far.post([OBJECT, "second"]);
    const all = heard(near);
    await later();
    // The first is taken so where a port looks what is queued when it starts.
    const told = startedPortsTravel() ? [[OBJECT, "first"]] : [];
    // Where messages are not taken so, nothing has happened.
    assertEquals(all, [...told, asked ? "gone" : [OBJECT, "second"]]);
    unreadable = undefined;
    near.close();
    far.close();
  } finally {
    threads.receiveMessageOnPort = receiveMessageOnPort;
  }
}, { needs: ["processes"] });

test(
  "OpenPort that is closed when its message is there already closes what is in it",
  async () => {
    const [one, first] = openChannel();
    const [two, second] = openChannel();
    const [kept, inside] = openChannel();
    const all = heard(kept);
    // Both messages are there when the first is heard of.
    one.start({ frame: () => two.close(), gone() {} });
    two.start({ frame: () => void all.push("too early"), gone() {} });
    const raw = inside.give();
    first.post([OBJECT, "close"]);
    second.post([OBJECT, raw], [raw]);
    for (let i = 0; i < 100 && all.length === 0; i++) await later();
    assertEquals(all, ["gone"]);
    for (const port of [one, first, second]) port.close();
  },
  { needs: ["transfer", "orphans"] },
);
