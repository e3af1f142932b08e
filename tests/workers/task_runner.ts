// Runs one task for `spawnTask`.

import { exit, nextMessage, postResult } from "../_worker.ts";
import { pack, unpack } from "../_module.ts";
import { allSettled } from "../_pending.ts";
import type { TaskMessage, TaskResult } from "../_spawn.ts";

type Task = (args: unknown) => unknown;

async function perform(message: TaskMessage): Promise<TaskResult> {
  try {
    const module = await import(message.module) as Record<string, Task>;
    const task = module[message.name];
    if (!task) throw new Error(`No task ${message.name} in ${message.module}`);
    return { ok: await task(message.args) };
  } catch (thrown) {
    const { name, message } = thrown instanceof Error
      ? thrown
      : new Error(String(thrown));
    return { error: { name, message } };
  }
}

async function run(): Promise<void> {
  const message = unpack<TaskMessage>(await nextMessage());
  const [packed, transfer] = pack(await perform(message));
  postResult(packed, transfer, await allSettled(message.patience));
  if (!message.linger) exit();
}

// Not awaited: Deno never frees the memory of a worker that is terminated in a top-level await.
run();
