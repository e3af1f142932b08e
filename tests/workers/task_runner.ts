// Runs one task for `spawnTask`.

import { exit, nextMessage, postResult } from "../_worker.ts";
import { pack, unpack } from "../_module.ts";
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

const message = unpack<TaskMessage>(await nextMessage());
postResult(...pack(await perform(message)));
if (!message.linger) exit();
