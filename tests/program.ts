// `deno task chaos`, `deno task soak`: a program of `tests/`, in this runtime or, named first, in another;
// the garbage collector can be called there. Other arguments pass through.

import { findBun, findNode, NODE_HOOK, run, stdArgs } from "./_tools.ts";

const GC = "--expose-gc";

const runtimes: Record<string, () => Promise<[string, string[]]>> = {
  deno: async () => [
    Deno.execPath(),
    ["run", "-A", "--no-check", `--v8-flags=${GC}`, ...await stdArgs()],
  ],
  bun: findBun,
  node: async () => {
    const [node, first] = await findNode();
    return [node, [...first, ...NODE_HOOK, GC]];
  },
};

const [program, ...args] = Deno.args;
const named = runtimes[args[0] ?? ""];
const [command, options] = await (named ?? runtimes.deno!)();
const rest = named ? args.slice(1) : args;
Deno.exit(await run(command, [...options, `tests/${program}.ts`, ...rest]));
