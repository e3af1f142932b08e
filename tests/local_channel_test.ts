// What stands in for `MessageChannel` in edge runtimes does, as far as it is used, what that does.

import { assertEquals, assertNotStrictEquals } from "@std/assert";
import { localChannel } from "../_local_channel.ts";
import { test, type TestOptions } from "./_harness.ts";
import { runtime } from "./_runtime.ts";

/** What a port receives. */
function collect(port: MessagePort): {
  got: unknown[];
  until: (count: number) => Promise<void>;
  listener: (event: MessageEvent) => void;
} {
  const got: unknown[] = [];
  let check = () => {};
  const listener = ({ data }: MessageEvent) => {
    got.push(data);
    check();
  };
  port.addEventListener("message", listener);
  const until = (count: number) =>
    new Promise<void>((done) => {
      check = () => got.length >= count && done();
      check();
    });
  return { got, until, listener };
}

test(
  "localChannel(): messages wait for start(), and arrive in order, as clones, in another turn",
  async () => {
    const { port1, port2 } = localChannel();
    const { got, until } = collect(port2);
    const first = { n: 1 };
    port1.postMessage(first);
    first.n = 2;
    port1.postMessage("second");
    const other = collect(port1);
    port2.postMessage("back");
    port1.start();
    await other.until(1);
    assertEquals(got, []);
    port2.start();
    assertEquals(got, []);
    port1.postMessage("third");
    await until(3);
    assertEquals(got, [{ n: 1 }, "second", "third"]);
    assertNotStrictEquals(got[0], first);
    port1.close();
    port2.close();
  },
);

test(
  "localChannel(): what was posted before close() arrives, what comes later does not",
  async () => {
    const { port1, port2 } = localChannel();
    const { got, until, listener } = collect(port2);
    port1.postMessage(1);
    port1.close();
    port1.postMessage(2);
    port2.start();
    await until(1);
    port2.removeEventListener("message", listener);
    port2.removeEventListener("message", () => {}); // never added
    port2.close();
    port2.close();
    port2.postMessage(3);
    assertEquals(got, [1]);
  },
);

// Not in workerd: a macrotask there is dropped when the request that asked for it has ended.
const pausing: TestOptions = runtime === "workerd"
  ? { needs: ["workers"] }
  : {};

test("localChannel(): timers have their turn beside a stream", async () => {
  const { port1, port2 } = localChannel();
  const { until } = collect(port2);
  port2.start();
  let turn = false;
  setTimeout(() => turn = true);
  for (let i = 1; !turn; i++) {
    port1.postMessage(i);
    port1.postMessage(++i); // the second of two finds a delivery under way
    await until(i);
  }
  port1.close();
  port2.close();
}, pausing);
