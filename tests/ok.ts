// `deno task ok` and its parts. Without arguments every step runs, and the first that fails ends it;
// names choose steps; `--static` runs all but the tests and reports each.

import { ROOT, run, stdArgs } from "./_tools.ts";

const deno = Deno.execPath();

/** The files that are published. */
const published = [
  "mod.ts",
  ...[...Deno.readDirSync(ROOT)]
    .filter(({ isFile, name }) => isFile && name.endsWith(".ts"))
    .map(({ name }) => name)
    .filter((name) => name !== "mod.ts")
    .sort(),
];

let std: string[] | undefined;

async function stdOnce(): Promise<string[]> {
  return std ??= await stdArgs();
}

async function docTest(): Promise<number> {
  const std = await stdOnce();
  const options = ["-A", "--doc", "--no-check", "--permit-no-files"];
  return await run(deno, ["test", ...options, ...std, ...published]) ||
    await run(deno, ["check", "--doc", ...std, ...published]) ||
    await run(deno, ["run", "-A", "tests/docs.ts"]);
}

const steps: Record<string, () => Promise<number>> = {
  "fmt": () => run(deno, ["fmt", "--check"]),
  "lint": () => run(deno, ["lint"]),
  "check": async () => run(deno, ["check", ...await stdOnce(), "."]),
  "check:browser": () =>
    run(deno, ["check", "--config", "tests/browser.json", ...published]),
  "doc:lint": () => run(deno, ["doc", "--lint", "mod.ts"]),
  "doc:test": docTest,
  "publish:dry": () => run(deno, ["publish", "--dry-run", "--allow-dirty"]),
  "test": () => run(deno, ["run", "-A", "tests/run.ts", "deno"]),
};

const keepGoing = Deno.args.includes("--static");
const named = Deno.args.filter((arg) => arg !== "--static");
const chosen = named.length > 0
  ? named
  : Object.keys(steps).filter((name) => !keepGoing || name !== "test");

const failed: string[] = [];
for (const name of chosen) {
  const step = steps[name];
  if (!step) throw new Error(`No step ${name}`);
  console.log(`--- ${name}`);
  if (await step() === 0) continue;
  failed.push(name);
  if (!keepGoing) break;
}

for (const name of failed) {
  console.error(
    `NOT OK: ${name} failed (again: deno run -A tests/ok.ts ${name})`,
  );
}
if (keepGoing) {
  const passed = chosen.length - failed.length;
  console.log(`static: ${passed} passed, ${failed.length} failed`);
} else if (failed.length === 0) {
  console.log(`ok: ${chosen.join(", ")}`);
}
Deno.exit(failed.length > 0 ? 1 : 0);
