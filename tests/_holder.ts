// A worker that holds queues and other endpoints by name, told from here what to call.

import { type Connection, OSError, Pipe } from "../mod.ts";
import { force } from "../_runtime.ts";
import { spawnTask, type Task, test, type TestOptions } from "./_harness.ts";

/** The tasks that use queues. */
export const QUEUE_TASKS: URL = new URL(
  "./workers/queue_tasks.ts",
  import.meta.url,
);

/** What a holder is told to do. */
export interface Order {
  id: number;
  op: "hold" | "make" | "call" | "give" | "abort" | "leave";
  name: string;
  value?: unknown;
  method?: string;
  args?: unknown[];
  /** Keeps the result under this name instead of sending it. */
  as?: string | undefined;
}

/** What it answers. */
export interface Reply {
  id: number;
  called?: true;
  ok?: unknown;
  error?: { name: string; message: string };
}

/** A call in another thread. */
export interface Called<T = unknown> {
  /** The method has been called there. */
  called: Promise<void>;
  /** What came of it. */
  result: Promise<T>;
}

/** Stands, in arguments of a call, for what the holder holds. */
export function held(name: string): { $held: string } {
  return { $held: name };
}

/** Stands for an `AbortSignal` of the holder, to be aborted by `abort(name)`. */
export function signalOf(name: string): { $signal: string } {
  return { $signal: name };
}

/** Stands for something that cannot be cloned. */
export const UNCLONEABLE: { $uncloneable: true } = { $uncloneable: true };

/** See the module's comment. */
export class Holder {
  readonly #control: Connection<Order, Order>;
  readonly #task: Task<void>;
  readonly #pending = new Map<
    number,
    {
      called: PromiseWithResolvers<void>;
      result: PromiseWithResolvers<unknown>;
    }
  >();
  #id = 0;

  /** Its queues have shared memory if those made here have. */
  constructor(given: Record<string, unknown> = {}) {
    const [control, conn] = Pipe<unknown>();
    this.#control = control as Connection<Order, Order>;
    const { noSharedMemory } = force;
    this.#task = spawnTask<void>("holder", {
      control: conn,
      noSharedMemory,
      given,
    }, { module: QUEUE_TASKS });
    this.#listen();
  }

  get worker(): Task<void>["worker"] {
    return this.#task.worker;
  }

  async #listen(): Promise<void> {
    try {
      for await (const reply of this.#control as Connection<Reply>) {
        const pending = this.#pending.get(reply.id)!;
        if (reply.called) {
          pending.called.resolve();
          continue;
        }
        this.#pending.delete(reply.id);
        pending.called.resolve();
        if (reply.error) {
          const { name, message } = reply.error;
          pending.result.reject(Object.assign(new Error(message), { name }));
        } else pending.result.resolve(reply.ok);
      }
    } catch (error) {
      if (!(error instanceof OSError)) throw error; // `end()` has closed it
    }
    for (const { called, result } of this.#pending.values()) {
      called.reject(new Error("The holder has ended"));
      result.reject(new Error("The holder has ended"));
    }
    this.#control.close();
  }

  #order(
    op: Order["op"],
    name: string,
    more: Partial<Order> = {},
  ): Called {
    const called = Promise.withResolvers<void>();
    const result = Promise.withResolvers<unknown>();
    called.promise.catch(() => {});
    result.promise.catch(() => {});
    const id = ++this.#id;
    this.#pending.set(id, { called, result });
    this.#control.send({ id, op, name, ...more }).catch(() => {});
    return { called: called.promise, result: result.promise };
  }

  /** Hands something over to it. */
  async hold(name: string, value: unknown): Promise<void> {
    await this.#order("hold", name, { value }).result;
  }

  /** It makes a queue, which it then owns. */
  async make(
    name: string,
    maxsize = 0,
    joinable = false,
  ): Promise<void> {
    const kind = joinable ? "JoinableQueue" : "Queue";
    await this.#order("make", name, { value: kind, args: [maxsize] }).result;
  }

  /** What it holds. */
  async give<T>(name: string): Promise<T> {
    return (await this.#order("give", name).result as { value: T }).value;
  }

  /** Begins a call there. */
  start<T = unknown>(
    name: string,
    method: string,
    ...args: unknown[]
  ): Called<T> {
    return this.#order("call", name, { method, args }) as Called<T>;
  }

  /** Makes a call there. */
  call<T = unknown>(
    name: string,
    method: string,
    ...args: unknown[]
  ): Promise<T> {
    return this.start<T>(name, method, ...args).result;
  }

  /** Makes a call there whose result stays there. */
  async keep(
    as: string,
    name: string,
    method: string,
    ...args: unknown[]
  ): Promise<void> {
    await this.#order("call", name, { method, args, as }).result;
  }

  /** Aborts a signal there. */
  async abort(name: string, reason: string): Promise<void> {
    await this.#order("abort", name, { value: reason }).result;
  }

  /** It loops without returning to its events, until the words say otherwise; resolves when it does. */
  async block(words: Int32Array): Promise<void> {
    await this.#order("call", "self", { method: "block", args: [words] })
      .called;
  }

  /** It ends without closing anything. */
  async leave(how: "return" | "exit" | "throw"): Promise<void> {
    this.#order("leave", how);
    await this.worker.exited;
  }

  terminate(): Promise<void> {
    return this.worker.terminate();
  }

  /** Closes what it holds, and ends it. */
  async end(): Promise<void> {
    this.#control.close();
    await this.#task.result;
  }
}

/** A test that runs with shared memory and without. */
export function queueTest(
  name: string,
  fn: (how: string) => Promise<void>,
  options: TestOptions = {},
): void {
  for (const how of ["shared memory", "no shared memory"]) {
    test(`${name} (${how})`, async () => {
      force.noSharedMemory = how === "no shared memory";
      try {
        await fn(how);
      } finally {
        force.noSharedMemory = false;
      }
    }, options);
  }
}

/** The numbers from `from` up to `to`, without it. */
export function numbers(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** How a promise ends: its value, or `"<name>: <message>"`. */
export function outcome(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    (value) => value,
    (error) => `${(error as Error).name}: ${(error as Error).message}`,
  );
}

/** The name of the error that a promise rejects with. */
export async function nameOf(promise: Promise<unknown>): Promise<string> {
  try {
    return `resolved to ${JSON.stringify(await promise)}`;
  } catch (error) {
    return (error as Error).name;
  }
}

/** Whether a promise is still pending after `turns` round trips of a message channel. */
export async function isPending(
  promise: Promise<unknown>,
  turns = 5,
): Promise<boolean> {
  let done = false;
  const settled = () => void (done = true);
  promise.then(settled, settled);
  for (let i = 0; i < turns; i++) {
    await new Promise((resolve) => setTimeout(resolve));
  }
  return !done;
}
