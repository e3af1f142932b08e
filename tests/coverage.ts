// `deno task coverage`: what of the published files the tests reach in Deno, with the lines that they do
// not. What runs only in other runtimes is not reached. Arguments: test files.

import { ROOT, run, stdArgs } from "./_tools.ts";

const folder = await Deno.makeTempDir();
const files = Deno.args.length > 0 ? Deno.args : ["tests/"];
const options = ["-A", "--no-check", "--quiet", `--coverage=${folder}`];
const tested = await run(Deno.execPath(), [
  "test",
  ...options,
  ...await stdArgs(),
  ...files,
]);
const report = ["coverage", folder, "--exclude=/(tests|examples|bench)/"];
const lines = await run(Deno.execPath(), [...report, "--detailed"]);
const table = await run(Deno.execPath(), report);
await Deno.remove(folder, { recursive: true });
if (tested + lines + table !== 0) console.error(`Failed in ${ROOT}`);
Deno.exit(tested || lines || table);
