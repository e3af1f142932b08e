// Random programs for pipes and queues, made and shrunk by fast-check, against naive models: arrays.
// After each step every call that the model says is settled is awaited and compared; at the end those
// that the model says wait still do.

import type FastCheck from "fast-check";
import { assertEquals } from "@std/assert";
import { type Connection, Pipe, Queue } from "../mod.ts";
import { force } from "../_runtime.ts";
import { Agent } from "./_agent.ts";
import { scale, seed, test, type TestOptions } from "./_harness.ts";
import { Holder, queueTest } from "./_holder.ts";
import { local } from "./_local.ts";
import { importPackage } from "./_packages.ts";

const PROCESSES: TestOptions = { needs: ["processes"], deadline: 60_000 };

// deno-lint-ignore no-explicit-any
type Any = any;

/** A call, and what the model says comes of it, or what checks that; `undefined`: it waits. */
interface Call {
  got: Promise<string>;
  expected: string | ((got: string) => void) | undefined;
  stop: AbortController;
}

async function outcome(promise: Promise<unknown>): Promise<string> {
  try {
    const value = await promise;
    if (value instanceof Uint8Array) return `bytes ${value.length}`;
    return value === undefined ? "done" : JSON.stringify(value);
  } catch (error) {
    return (error as Error).name;
  }
}

/** A call that hangs is to be a counterexample too. */
const PATIENCE = 5000;

/** Compares what is known; returns what still waits. */
async function compare(calls: Call[]): Promise<Call[]> {
  for (const { got, expected } of calls) {
    if (expected === undefined) continue;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<string>((done) => {
      timer = setTimeout(() => done("hangs"), PATIENCE);
    });
    const what = await Promise.race([got, late]);
    clearTimeout(timer);
    if (typeof expected === "function") expected(what);
    else assertEquals(what, expected);
  }
  return calls.filter(({ expected }) => expected === undefined);
}

/** Checks that calls wait. */
async function stillWait(calls: Call[]): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((done) => setTimeout(done));
  const waits = Promise.resolve("waits");
  for (const { got } of calls) {
    assertEquals(await Promise.race([got, waits]), "waits");
  }
}

/** Checks a property with as many programs. */
async function check<T>(
  runs: number,
  programs: (fc: typeof FastCheck) => FastCheck.Arbitrary<T>,
  run: (program: T) => Promise<void>,
): Promise<void> {
  const { default: fc } = await importPackage<{ default: typeof FastCheck }>(
    "fast-check",
  );
  const property = fc.asyncProperty(programs(fc), run);
  await fc.assert(property, { seed: seed(), numRuns: scale(runs) });
}

// --- Pipes -------------------------------------------------------------------------

const PIPE_OPS = [
  ...["send", "send", "send_bytes", "recv", "recv", "recv_bytes", "poll"],
  ...["recv ms", "abort", "move", "send", "recv", "send_bytes", "close"],
] as const;

interface PipeStep {
  op: typeof PIPE_OPS[number];
  end: 0 | 1;
}

interface PipeCall extends Call {
  end: 0 | 1;
  op: "recv" | "recv_bytes";
}

/** Two ends, either of which may be with the agent. */
class PipeProgram {
  readonly ends: (Connection<Any> | "away")[];
  readonly agent: Agent | undefined;
  /** The model: what is on its way to each end, who waits there, who has closed. */
  readonly inbox: string[][] = [[], []];
  readonly closed = [false, false];
  waiting: PipeCall[] = [];
  #settled: Call[] = [];
  #next = 0;

  constructor(agent: Agent | undefined) {
    this.ends = [...Pipe<Any>()];
    this.agent = agent;
  }

  call(end: 0 | 1, method: string, ...args: unknown[]): Promise<unknown> {
    const conn = this.ends[end]!;
    if (conn !== "away") return (conn as Any)[method](...args);
    return this.agent!.call(`${end}`, method, ...args);
  }

  #expect(promise: Promise<unknown>, expected: string): void {
    const stop = new AbortController();
    this.#settled.push({ got: outcome(promise), expected, stop });
  }

  /** The model: serves the calls that wait at an end. */
  #serve(end: 0 | 1): void {
    for (const call of this.waiting.filter((call) => call.end === end)) {
      const next = this.inbox[end]![0];
      if (next === undefined) {
        if (this.closed[1 - end]) call.expected = "EOFError";
      } else if (next.startsWith("bytes") !== (call.op === "recv_bytes")) {
        call.expected = "TypeError";
      } else call.expected = this.inbox[end]!.shift()!;
    }
  }

  #end(end: 0 | 1): void {
    for (const call of this.waiting) {
      if (call.end === end) call.expected ??= "OSError";
    }
  }

  async step({ op, end }: PipeStep): Promise<void> {
    const conn = this.ends[end]!;
    const other = 1 - end as 0 | 1;
    const away = conn === "away";
    if (this.closed[end]) {
      if (op === "send" || op === "recv") {
        this.#expect(this.call(end, op), "OSError");
      }
    } else if (op === "send" || op === "send_bytes") {
      const n = this.#next++ % 100;
      const sent = this.call(end, op, op === "send" ? n : new Uint8Array(n));
      // Between threads it takes a moment until a close is known.
      if (this.closed[other] && this.agent) await outcome(sent);
      else if (this.closed[other]) this.#expect(sent, "BrokenPipeError");
      else {
        this.#expect(sent, "done");
        this.inbox[other]!.push(op === "send" ? `${n}` : `bytes ${n}`);
        this.#serve(other);
      }
    } else if (op === "recv" || op === "recv_bytes") {
      const stop = new AbortController();
      const options = away ? [] : [{ signal: stop.signal }];
      const args = op === "recv" ? options : [undefined, ...options];
      const got = outcome(this.call(end, op, ...args));
      this.waiting.push({ got, expected: undefined, stop, end, op });
      if (away) await this.call(end, "fileno"); // it has been called
      this.#serve(end);
    } else if (op === "recv ms") {
      const waits = this.waiting.some((call) => call.end === end);
      const there = this.inbox[end]!.length > 0 || this.closed[other];
      if (!waits) {
        this.#expect(this.call(end, "poll", there ? 10_000 : 1), `${there}`);
      }
    } else if (op === "poll") {
      const there = this.inbox[end]!.length > 0 || this.closed[other];
      this.#expect(this.call(end, "poll", there ? null : 0), `${there}`);
    } else if (op === "abort") {
      const call = away ? undefined : this.waiting.find((c) => c.end === end);
      if (call === undefined) return;
      call.stop.abort(new RangeError("Aborted"));
      call.expected = "RangeError";
    } else if (op === "close") {
      this.#expect(Promise.resolve(this.call(end, op)), "done");
      this.closed[end] = true;
      this.#end(end);
      this.#serve(other);
      this.inbox[end] = [];
    } else {
      this.#end(end);
      await this.#move(end, conn);
    }
    this.waiting = await compare(this.waiting) as PipeCall[];
    await compare(this.#settled.splice(0));
  }

  async #move(end: 0 | 1, conn: Connection<Any> | "away"): Promise<void> {
    const { ends, agent } = this;
    if (!agent) ends[end] = (await local({ conn })).conn as Connection<Any>;
    else if (conn === "away") ends[end] = await agent.give(`${end}`);
    else {
      await agent.take(`${end}`, conn);
      ends[end] = "away";
    }
  }

  async finish(): Promise<void> {
    await stillWait(this.waiting);
    for (const end of [0, 1] as const) {
      if (!this.closed[end]) await this.step({ op: "close", end });
    }
    assertEquals(this.waiting.length, 0);
  }
}

for (const how of ["one thread", "replugged", "two threads"]) {
  test(`Connection does what two arrays do (${how})`, async () => {
    force.replug = how === "replugged";
    const agent = how === "two threads" ? new Agent() : undefined;
    try {
      await check(
        100,
        (fc) =>
          fc.array(
            fc.record<PipeStep>({
              op: fc.constantFrom(...PIPE_OPS),
              end: fc.constantFrom(0, 1),
            }),
            { maxLength: 40 },
          ),
        async (steps) => {
          const program = new PipeProgram(agent);
          for (const step of steps) await program.step(step);
          await program.finish();
        },
      );
      await agent?.end();
    } finally {
      force.replug = false;
    }
  }, PROCESSES);
}

// --- Queues ------------------------------------------------------------------------

const QUEUE_OPS = [
  ...["put", "put", "put", "get", "get", "put_nowait", "get_nowait", "qsize"],
  ...["put ms", "get ms", "abort put", "abort get", "put_many", "get_many"],
] as const;

interface QueueStep {
  op: typeof QUEUE_OPS[number];
  /** Whose handle: one of two in this thread, or the holder's. */
  at: 0 | 1 | 2;
}

interface QueueCall extends Call {
  at: number;
  items: number[];
  stored: number;
}

/** One queue, three handles, in two threads. Each handle's items keep their order, among handles there is none. */
class QueueProgram {
  readonly q: Queue<number>;
  readonly holder: Holder;
  size = 0;
  /** The items that are there, by the handle that put them. */
  readonly items: number[][] = [[], [], []];
  puts: QueueCall[] = [];
  gets: QueueCall[] = [];
  #next = 0;

  readonly handles: Queue<number>[];

  constructor(maxsize: number, holder: Holder) {
    this.q = new Queue(maxsize);
    this.handles = [this.q];
    this.holder = holder;
  }

  async begin(): Promise<void> {
    this.handles.push(await local(this.q));
    await this.holder.hold("q", this.q);
  }

  /** Calls a method; the call has been made when this resolves. */
  async #call(
    at: number,
    method: string,
    ...args: Any[]
  ): Promise<[Promise<string>, AbortController]> {
    const stop = new AbortController();
    if (at < 2) {
      // The last argument of a call that can wait is its options.
      const last = args[args.length - 1];
      const all = typeof last === "object"
        ? [...args.slice(0, -1), { ...last, signal: stop.signal }]
        : args;
      return [outcome((this.handles[at] as Any)[method](...all)), stop];
    }
    const got = await outcome(this.holder.call("q", method, ...args));
    // Without shared memory the owner hears only now that it has been received.
    await this.holder.call("q", "qsize");
    return [Promise.resolve(got), stop];
  }

  /** Checks what a get returned: the next items of handles. */
  readonly #taken = (got: string): void => {
    for (const item of [JSON.parse(got)].flat()) {
      const list = this.items.find(([next]) => next === item);
      assertEquals(
        list?.shift(),
        item,
        `${got} of ${JSON.stringify(this.items)}`,
      );
    }
  };

  /** The model: stores what waits, and hands it out, in order. */
  #serve(): void {
    const { q } = this;
    for (let moved = true; moved;) {
      moved = false;
      const get = this.gets.find(({ expected }) => expected === undefined);
      if (get && this.size > 0) {
        get.expected = this.#taken;
        this.size--;
        moved = true;
      }
      const put = this.puts.find(({ expected }) => expected === undefined);
      if (put && (q.maxsize <= 0 || this.size < q.maxsize)) {
        this.#store(put.at, put.items[put.stored++]!);
        if (put.stored === put.items.length) put.expected = "done";
        moved = true;
      }
    }
  }

  #store(at: number, item: number): void {
    this.items[at]!.push(item);
    this.size++;
  }

  async step({ op, at }: QueueStep): Promise<void> {
    const { maxsize } = this.q;
    const places = maxsize <= 0 ? Infinity : maxsize - this.size;
    if (at === 2) {
      // When a call of another thread has lined up cannot be told here: there it does not have to.
      if (op === "put" && (places < 1 || this.puts.length > 0)) return;
      if (op === "put_many" && (places < 3 || this.puts.length > 0)) return;
      if (op === "get" && (this.size === 0 || this.gets.length > 0)) return;
      // Nor when the owner has heard of the room that a get made.
      const takes = op.includes("get") && op !== "abort get";
      if (takes && this.puts.length > 0) return;
    }
    const now = async (
      expected: Call["expected"],
      method: string,
      ...args: Any[]
    ) => {
      const [got, stop] = await this.#call(at, method, ...args);
      await compare([{ got, expected, stop }]);
    };
    if (op === "put" || op === "put_many") {
      const many = [this.#next++];
      if (op === "put_many") many.push(this.#next++, this.#next++);
      const arg = op === "put" ? many[0] : many;
      const [got, stop] = await this.#call(at, op, arg, {});
      const call = { got, stop, at, items: many, stored: 0 };
      this.puts.push({ ...call, expected: undefined });
    } else if (op === "get") {
      const [got, stop] = await this.#call(at, op, {});
      const call = { got, stop, at, items: [], stored: 0 };
      this.gets.push({ ...call, expected: undefined });
    } else if (op === "put_nowait" || op === "put ms") {
      const item = this.#next++;
      const fits = places > 0 && this.puts.length === 0;
      if (fits) this.#store(at, item);
      const expected = fits ? "done" : "Full";
      if (op === "put_nowait") await now(expected, op, item);
      else await now(expected, "put", item, { timeout: 1 });
    } else if (op === "qsize") await now(`${this.size}`, op);
    else if (op === "abort put" || op === "abort get") {
      const calls = op === "abort put" ? this.puts : this.gets;
      const call = calls.find((call) => call.at === at);
      if (call) {
        call.stop.abort(new RangeError("Aborted"));
        call.expected = "RangeError";
      }
    } else {
      const most = op === "get_many" ? 2 : 1;
      const count = this.gets.length === 0 ? Math.min(most, this.size) : 0;
      this.size -= count;
      const check = (got: string) => {
        assertEquals([JSON.parse(got)].flat().length, count);
        this.#taken(got);
      };
      const expected = count === 0 ? "Empty" : check;
      if (op === "get_many") await now(expected, op, 2, { block: false });
      else if (op === "get_nowait") await now(expected, op);
      else await now(expected, "get", { timeout: 1 });
    }
    this.#serve();
    this.puts = await compare(this.puts) as QueueCall[];
    this.gets = await compare(this.gets) as QueueCall[];
  }

  async finish(): Promise<void> {
    await stillWait([...this.puts, ...this.gets]);
    await this.q.shutdown({ immediate: true });
    for (const call of [...this.puts, ...this.gets]) call.expected = "ShutDown";
    await compare([...this.puts, ...this.gets]);
    await this.holder.call("q", "close");
    for (const handle of this.handles) {
      handle.close();
      await handle.join_thread();
    }
  }
}

queueTest("Queue does what an array does", async () => {
  const holder = new Holder();
  await check(
    60,
    (fc) =>
      fc.tuple(
        fc.constantFrom(0, 1, 2, 5),
        fc.array(
          fc.record<QueueStep>({
            op: fc.constantFrom(...QUEUE_OPS),
            at: fc.constantFrom(0, 1, 2),
          }),
          { maxLength: 40 },
        ),
      ),
    async ([maxsize, steps]) => {
      const program = new QueueProgram(maxsize, holder);
      await program.begin();
      for (const step of steps) await program.step(step);
      await program.finish();
    },
  );
  await holder.end();
}, PROCESSES);
