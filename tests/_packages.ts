// npm packages that tests use, in runtimes that do not fetch them by themselves.

import { builtin, runtime } from "./_runtime.ts";

interface Fs {
  existsSync(path: string): boolean;
  mkdtempSync(prefix: string): string;
  readFileSync(path: URL | string, encoding: "utf8"): string;
  renameSync(from: string, to: string): void;
  rmSync(path: string, options: { recursive: true; force: true }): void;
}

interface Processes {
  execFileSync(command: string, args: string[], options: object): unknown;
}

/** The folder of a package, installed beside the system's temporary files once for each version. */
function installed(name: string): string {
  const fs = builtin<Fs>("node:fs");
  const { tmpdir, platform } = builtin<
    { tmpdir(): string; platform(): string }
  >("node:os");
  const config = fs.readFileSync(
    new URL("../deno.json", import.meta.url),
    "utf8",
  );
  const spec = JSON.parse(config).imports[name].replace("npm:", "") as string;
  const folder = `${tmpdir()}/npm-${spec.replace(/[^\w.-]/g, "-")}`;
  if (!fs.existsSync(folder)) {
    // Other processes may be at it: complete folders only have the name.
    const fresh = fs.mkdtempSync(`${folder}-`);
    const args = [
      "install",
      "--no-save",
      "--no-audit",
      "--prefix",
      fresh,
      spec,
    ];
    builtin<Processes>("node:child_process").execFileSync("npm", args, {
      stdio: ["ignore", "ignore", "inherit"],
      shell: platform() === "win32",
    });
    try {
      fs.renameSync(fresh, folder);
    } catch {
      fs.rmSync(fresh, { recursive: true, force: true });
    }
  }
  return `${folder}/node_modules/${name}`;
}

/** Imports a package that `deno.json` names. */
export async function importPackage<T>(name: string): Promise<T> {
  if (runtime === "deno") return await import(name);
  const { createRequire } = builtin<
    { createRequire(from: string): { resolve(name: string): string } }
  >("node:module");
  const folder = installed(name);
  const path = createRequire(`${folder}/package.json`).resolve(name);
  return await import(path);
}
