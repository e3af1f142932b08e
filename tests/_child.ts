// Programs of their own, to see whether and how they end.

import { builtin, runtime } from "./_runtime.ts";

interface Stream {
  on(type: "data", listener: (chunk: { toString(): string }) => void): void;
}

interface ChildProcess {
  spawn(command: string, args: string[], options: object): {
    stdout: Stream;
    stderr: Stream;
    kill(signal: string): void;
    on(type: "close", listener: (code: number | null) => void): void;
  };
}

interface Program {
  execPath: string;
}

const OPTIONS: Record<string, { plain: string[]; gc: string[] }> = {
  deno: {
    plain: ["run", "-A", "--no-check"],
    gc: ["run", "-A", "--no-check", "--v8-flags=--expose-gc"],
  },
  bun: { plain: [], gc: [] },
  node: { plain: ["--no-warnings"], gc: ["--no-warnings", "--expose-gc"] },
};

/** Runs a program in this runtime until it ends; resolves to what it wrote, rejects when it fails or does not end. */
export function runChild(
  file: URL,
  args: string[],
  { gc = false, patience = 10_000 }: { gc?: boolean; patience?: number } = {},
): Promise<string> {
  const { spawn } = builtin<ChildProcess>("node:child_process");
  const { execPath } = (globalThis as unknown as { process: Program }).process;
  const options = OPTIONS[runtime]![gc ? "gc" : "plain"];
  const child = spawn(execPath, [...options, file.pathname, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let errors = "";
  child.stdout.on("data", (chunk) => output += chunk);
  child.stderr.on("data", (chunk) => errors += chunk);
  return new Promise((resolve, reject) => {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, patience);
    child.on("close", (code) => {
      clearTimeout(timer);
      if (code === 0 && !late) resolve(output);
      else {
        const what = late ? "did not end by itself" : `ended with ${code}`;
        reject(new Error(`The program ${what}: ${output}${errors}`));
      }
    });
  });
}
