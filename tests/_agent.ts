// A worker that holds connections, told from here what to do with them.

import { type Connection, OSError, Pipe } from "../mod.ts";
import { spawnTask, type Task } from "./_harness.ts";

// deno-lint-ignore no-explicit-any
type Any = Connection<any>;

/** The tasks that use pipes. */
export const PIPE_TASKS: URL = new URL(
  "./workers/pipe_tasks.ts",
  import.meta.url,
);

/** See the module's comment. */
export class Agent {
  readonly #control: Any;
  readonly #task: Task<void>;
  readonly #pending = new Map<number, PromiseWithResolvers<unknown>>();
  #id = 0;

  constructor(replug = false) {
    const [control, conn] = Pipe<unknown>();
    this.#control = control as Any;
    this.#task = spawnTask<void>("agent", { control: conn, replug }, {
      module: PIPE_TASKS,
    });
    this.#listen();
  }

  get worker(): Task<void>["worker"] {
    return this.#task.worker;
  }

  async #listen(): Promise<void> {
    try {
      for await (const { id, ok, error } of this.#control) {
        const pending = this.#pending.get(id)!;
        this.#pending.delete(id);
        if (error) {
          const { name, message } = error;
          pending.reject(Object.assign(new Error(message), { name }));
        } else pending.resolve(ok);
      }
    } catch (error) {
      if (!(error instanceof OSError)) throw error; // `end()` has closed it
    }
    for (const { reject } of this.#pending.values()) {
      reject(new Error("The agent has ended"));
    }
    this.#control.close();
  }

  /** Has the agent do something. */
  // deno-lint-ignore no-explicit-any
  order(op: string, name: string, more: object = {}): Promise<any> {
    const pending = Promise.withResolvers<unknown>();
    pending.promise.catch(() => {});
    const id = ++this.#id;
    this.#pending.set(id, pending);
    this.#control.send({ id, op, name, ...more });
    return pending.promise;
  }

  /** Hands a connection over to the agent. */
  take(name: string, conn: Any): Promise<void> {
    return this.order("take", name, { conn });
  }

  /** The connection back from the agent. */
  async give(name: string): Promise<Any> {
    return (await this.order("give", name)).conn;
  }

  /** Calls a method of a connection that the agent holds. */
  // deno-lint-ignore no-explicit-any
  call(name: string, method: string, ...args: unknown[]): Promise<any> {
    return this.order("call", name, { method, args });
  }

  /** Closes what the agent holds, and ends it. */
  async end(): Promise<void> {
    this.#control.close();
    await this.#task.result;
  }
}
