// The one test API: the same files run in Deno, Bun, Node, and in a plain registry elsewhere.
//
// Every test has a deadline, and ends with no live worker, no open port, no call that has not settled and
// nothing that keeps the thread alive; what it left is ended and the test fails.

import { abilities, builtin, runtime } from "./_runtime.ts";
import { liveHolds, livePorts } from "./_module.ts";
import { allSettled, forgetPending } from "./_pending.ts";
import { callsOfEnded, liveWorkers } from "./_spawn.ts";

export { env } from "./_runtime.ts";
export { wait } from "./_pending.ts";
export { Random, scale, seed } from "./_random.ts";
export { spawn, type Spawned, spawnTask, type Task } from "./_spawn.ts";

/** What a test cannot do without. */
export type Need = keyof typeof abilities;

/** Options of {@linkcode test}. */
export interface TestOptions {
  /** Milliseconds until the test fails; 20000 unless told. */
  deadline?: number;
  /** The test is skipped where one of these is missing. */
  needs?: Need[];
}

/** A test in the registry. */
export interface Registered {
  name: string;
  skip: boolean;
  run: () => Promise<void>;
}

type Body = () => void | Promise<void>;

/** Where there is no test runner: the tests, for one that executes them. */
export const registry: Registered[] = [];

const SETTLE = 10_000;

interface Runner {
  (test: Registered, deadline: number): void;
}

interface BunTest {
  test: ((name: string, fn: Body, ms: number) => void) & {
    skip(name: string, fn: Body): void;
  };
}

interface NodeTest {
  test(name: string, options: { skip: boolean }, fn: Body): void;
}

async function runner(): Promise<Runner> {
  if (runtime === "deno") {
    return ({ name, skip, run }) =>
      Deno.test({
        name,
        ignore: skip,
        fn: run,
        sanitizeOps: true,
        sanitizeResources: true,
      });
  }
  if (runtime === "node") {
    const { test } = builtin<NodeTest>("node:test");
    return ({ name, skip, run }) => test(name, { skip }, run);
  }
  if (runtime === "bun") {
    const name = "bun:test";
    const { test } = await import(name) as BunTest;
    return ({ name, skip, run }, deadline) =>
      skip ? test.skip(name, run) : test(name, run, deadline + 4 * SETTLE);
  }
  return (test) => registry.push(test);
}

const register = await runner();

/** Registers a test. */
export function test(
  name: string,
  fn: Body,
  { deadline = 20_000, needs = [] }: TestOptions = {},
): void {
  const skip = needs.some((need) => !abilities[need]);
  const run = () => supervise(fn, deadline);
  register({ name, skip, run }, deadline);
}

/** Rejects when `fn` is not done in time. */
async function within(fn: Body, ms: number): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () =>
      late.reject(
        new Error(`Deadline: the test was not done within ${ms} ms`),
      ),
    ms,
  );
  try {
    await Promise.race([fn(), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function becomes(done: () => boolean, ms: number): Promise<boolean> {
  const end = Date.now() + ms;
  while (!done()) {
    if (Date.now() >= end) return false;
    await pause(5);
  }
  return true;
}

/** Ends what is left of a test; says what that was. */
export async function cleanUp(patience: number = SETTLE): Promise<string[]> {
  const left: string[] = [];
  await becomes(() => liveWorkers().length === 0, patience);
  const workers = liveWorkers();
  if (workers.length > 0) left.push(`${workers.length} live worker(s)`);
  await Promise.all(workers.map((worker) => worker.terminate()));
  await becomes(() => livePorts() === 0 && liveHolds() === 0, patience);
  if (livePorts() > 0) left.push(`${livePorts()} open port(s)`);
  if (liveHolds() > 0) left.push(`${liveHolds()} keep-alive hold(s)`);
  const calls = [...await allSettled(patience), ...callsOfEnded()];
  if (calls.length > 0) left.push(`pending ${calls.join(", ")}`);
  forgetPending();
  return left;
}

/** Runs one test under all the rules. */
export async function supervise(
  fn: Body,
  deadline: number,
  patience: number = SETTLE,
): Promise<void> {
  let failed: { error: unknown } | null = null;
  try {
    await within(fn, deadline);
  } catch (error) {
    failed = { error };
  }
  // What a failed test leaves is a consequence, not worth waiting for.
  const left = await cleanUp(failed ? 50 : patience);
  if (failed) throw failed.error;
  if (left.length > 0) {
    throw new Error(`The test left behind: ${left.join(", ")}`);
  }
}
