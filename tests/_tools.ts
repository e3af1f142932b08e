// Shared by the commands (`run.ts`, `ok.ts`): they need nothing but Deno.

/** The path of a file URL, as this system writes it. */
function fromFileUrl(url: URL): string {
  const path = decodeURIComponent(url.pathname);
  return Deno.build.os === "windows"
    ? path.replace(/^\/([A-Za-z]:)/, "$1").replaceAll("/", "\\")
    : path;
}

/** The repository. */
export const ROOT: string = fromFileUrl(new URL("..", import.meta.url));

/** The names of the test files, in `tests/`. */
export function testFiles(): string[] {
  return [...Deno.readDirSync(`${ROOT}/tests`)]
    .map(({ name }) => name)
    .filter((name) => name.endsWith("_test.ts"))
    .sort();
}

/** The same, as paths in the repository. */
export function testPaths(): string[] {
  return testFiles().map((name) => `tests/${name}`);
}

/** The names of the published files. */
export function published(): string[] {
  return [...Deno.readDirSync(ROOT)]
    .filter(({ isFile, name }) => isFile && name.endsWith(".ts"))
    .map(({ name }) => name)
    .sort();
}

const STAND_INS = ["--import-map", "tests/std/import_map.json"];

/** Runs a command in the repository; resolves to its exit code. */
export async function run(
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<number> {
  try {
    const child = new Deno.Command(command, {
      args,
      env,
      cwd: ROOT,
      stdin: "null",
      stdout: "inherit",
      stderr: "inherit",
    }).spawn();
    return (await child.status).code;
  } catch (error) {
    console.error(`Cannot run ${command}: ${(error as Error).message}`);
    return 127;
  }
}

/** What a command prints, or null when it fails or takes too long. */
export async function output(
  command: string,
  args: string[],
  ms = 20_000,
): Promise<string | null> {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), ms);
  try {
    const { success, stdout } = await new Deno.Command(command, {
      args,
      cwd: ROOT,
      stdin: "null",
      stderr: "null",
      signal: stop.signal,
    }).output();
    return success ? new TextDecoder().decode(stdout) : null;
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

/** Where `@std/*` comes from, as arguments of `deno`: JSR if it answers, else the stand-ins. STD=local skips the question. */
export async function stdArgs(): Promise<string[]> {
  const asked = Deno.env.get("STD") !== "local" &&
    await output(Deno.execPath(), [
        "cache",
        "--quiet",
        "jsr:@std/assert@^1",
        "jsr:@std/async@^1",
      ], 5000) !== null;
  console.log(
    asked
      ? "@std from JSR"
      : "@std from tests/std (stand-ins: JSR does not answer)",
  );
  return asked ? [] : STAND_INS;
}

/** `npx`, as it is called here. */
export const NPX: string = Deno.build.os === "windows" ? "npx.cmd" : "npx";

/** The command itself where it is new enough, or else that of the npm registry. */
export async function find(
  name: string,
  npm: string,
  fits: (version: string) => boolean,
): Promise<[command: string, args: string[]]> {
  const version = await output(name, ["--version"]);
  if (version !== null && fits(version.trim().replace(/^v/, ""))) {
    console.log(`${name} ${version.trim()}`);
    return [name, []];
  }
  console.log(`npx ${npm}`);
  return [NPX, ["--yes", npm]];
}

/** Bun 1.4. */
export function findBun(): Promise<[command: string, args: string[]]> {
  return find("bun", "bun@1.4.5", (version) => version.startsWith("1.4."));
}

/** Node as NODE_VERSION wants it, or any that strips types. */
export function findNode(): Promise<[command: string, args: string[]]> {
  const wanted = Deno.env.get("NODE_VERSION");
  return find("node", `node@${wanted ?? "26"}`, (version) => {
    const [major = 0, minor = 0] = version.split(".").map(Number);
    if (wanted) return version === wanted || major === Number(wanted);
    return major > 22 || major === 22 && minor >= 18;
  });
}

/** Finds the stand-ins for `@std/*` in Node. */
export const NODE_HOOK: string[] = [
  "--disable-warning=ExperimentalWarning",
  "--import",
  "./tests/std/node_hook.js",
];
