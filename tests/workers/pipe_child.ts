// A program of its own, that uses pipes and is then to end by itself, or not.

import { type Connection, pack, Pipe, Queue, unpack, wait } from "../../mod.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

interface Timers {
  setTimeout(run: () => void, ms: number): { unref(): void };
}

const { process } = globalThis as Any;
const timers = process.getBuiltinModule("node:timers") as Timers;
const say = (text: string) => process.stdout.write(`${text}\n`);
const { Bun, gc } = globalThis as Any;
const collectGarbage = () => Bun ? Bun.gc(true) : gc();

function local<T>(value: T): Promise<T> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((done) => {
    port2.onmessage = ({ data }) => {
      port1.close();
      port2.close();
      done(unpack<T>(data));
    };
    port1.postMessage(...pack(value) as [Any, Any]);
  });
}

/** Runs `act` later, by a timer that keeps nothing alive. */
function unrefLater(act: () => void): void {
  timers.setTimeout(act, 300).unref();
}

const kept: unknown[] = [];
const scenarios: Record<string, () => Promise<void> | void> = {
  /** Open endpoints in every state. */
  async idle() {
    const pipes = Array.from({ length: 6 }, () => Pipe<Any>());
    kept.push(pipes);
    const [, one, two, three, four, five] = pipes as Any;
    await one[0].send(1); // unread
    await two[0].send(1);
    await two[1].recv();
    await two[1].send_bytes(new Uint8Array(10_000));
    await two[0].recv_bytes();
    await three[1].poll(1);
    await three[1].poll();
    await wait([three[0], three[1]], 1);
    const stop = new AbortController();
    const received = three[1].recv({ signal: stop.signal });
    stop.abort();
    await received.catch(() => {});
    await three[0].poll(60_000, { signal: AbortSignal.timeout(5) })
      .catch(() => {});
    await four[0].send(1);
    await four[1].recv();
    kept.push(await local(four[1]), await local(five[1]));
    for (let i = 0; i < 10; i++) await three[0].send(i);
    await three[1].recv();
  },
  /** Only a receive that waits keeps this alive. */
  recv() {
    const [a, b] = Pipe<Any>();
    b.recv().then(say);
    unrefLater(() => a.send("received"));
    kept.push(a);
  },
  poll() {
    const [a, b] = Pipe<Any>();
    b.poll(null).then(() => say("received"));
    unrefLater(() => a.send(1));
  },
  wait() {
    const [a, b] = Pipe<Any>();
    wait([b]).then(() => say("received"));
    unrefLater(() => a.send(1));
  },
  timeout() {
    const [a, b] = Pipe<Any>();
    kept.push(a);
    b.poll(100).then(() => say("received"));
  },
  /** A send that waits for room. */
  send() {
    const [a, b] = Pipe<Any>();
    for (let i = 0; i < 299; i++) a.send(i);
    a.send(299).then(() => say("received"));
    unrefLater(async () => {
      for (let i = 0; i < 200; i++) await b.recv();
    });
  },
  /** Connections that are dropped close themselves. */
  async garbage() {
    const dropped = (use: boolean): Connection<Any> => {
      const [a, b] = Pipe<Any>();
      if (use) {
        b.send("sent");
        b.poll(1);
      }
      return a;
    };
    const ends = [dropped(false), dropped(true)];
    const moved = await (async () => {
      const [a, b] = Pipe<Any>();
      await local(b);
      return a;
    })();
    ends.push(moved);
    // One that was packed, and never posted; one that was unpacked here, and packed again.
    const [packed, unpacked, message] = (() => {
      const [a, b] = Pipe<Any>();
      const [c, d] = Pipe<Any>();
      pack(b);
      return [a, c, pack(unpack(pack(d)[0]))[0]] as const;
    })();
    ends.push(packed);
    const waiting = (() => {
      const [a, b] = Pipe<Any>();
      return [a, b.recv()] as const;
    })();
    // One whose last call is aborted after it was dropped.
    const stop = new AbortController();
    const aborted = (() => {
      const [a, b] = Pipe<Any>();
      b.recv({ signal: stop.signal }).catch(() => {});
      return a;
    })();
    for (let i = 0; i < 20; i++) {
      collectGarbage();
      await new Promise((done) => setTimeout(done, 10));
      if (i === 10) stop.abort();
    }
    const other = unpack<Connection<Any>>(message);
    await other.send("kept");
    say(await unpacked.recv());
    await waiting[0].send("kept while it waits");
    say(await waiting[1]);
    for (const end of [...ends, aborted]) {
      try {
        while (true) say(`${await end.recv()}`);
      } catch (error) {
        say((error as Error).name);
      }
      end.close();
    }
    for (const end of [waiting[0], unpacked, other]) end.close();
  },
  /** A put that waits holds the endpoints in its item. */
  async "garbage in a put"() {
    const q = new Queue<Any>(1);
    await q.put("first");
    const [put, b] = (() => {
      const [a, b] = Pipe<Any>();
      return [q.put({ a }), b] as const;
    })();
    for (let i = 0; i < 10; i++) {
      collectGarbage();
      await new Promise((done) => setTimeout(done, 10));
    }
    say(await q.get());
    await put;
    const { a } = await q.get();
    await a.send("kept");
    say(await b.recv());
    for (const end of [a, b, q]) end.close();
  },
  /** An end that lies unread in one that was packed, cloned and unpacked. */
  async "garbage of a clone"() {
    const [a, b] = Pipe<Any>();
    const [c, d] = Pipe<Any>();
    b.poll(0).catch(() => {}); // it is in use
    a.send({ c });
    const got = (() => {
      const [message, transfer] = pack(b);
      return unpack<typeof b>(structuredClone(message, { transfer }));
    })();
    for (let i = 0; i < 10; i++) {
      collectGarbage();
      await new Promise((done) => setTimeout(done, 10));
    }
    const { c: unread } = await got.recv();
    await d.send("kept");
    say(await unread.recv());
    for (const end of [a, got, unread, d]) end.close();
  },
  /** An end that has come in, is packed again, and dropped. */
  async "garbage that came in"() {
    const [a, b] = Pipe<Any>();
    const { port1, port2 } = new MessageChannel();
    const next = new Promise<Any>((done) =>
      port2.onmessage = ({ data }) => done(data)
    );
    port1.postMessage(...pack(b) as [Any, Any]);
    const came = await next;
    (() => pack(unpack(came)))();
    const told = a.recv().catch((error: Error) => say(error.name));
    const timer = setInterval(collectGarbage, 10);
    await told;
    clearInterval(timer);
    port1.close();
    port2.close();
    a.close();
  },
  /** It has a timer, but nothing that keeps a program alive. */
  async "cancel_join_thread"() {
    const q = new Queue<number>(1);
    await q.put(1);
    q.put(2, { timeout: 60_000 }).catch(() => {});
    q.cancel_join_thread();
  },
};

await scenarios[process.argv[2]]!();
say("end");
