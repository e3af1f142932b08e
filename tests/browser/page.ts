// In the browser: runs one test file in this window, or in a worker of its own, and tells the runner.

import { execute, matching } from "../_execute.ts";

interface Host {
  document?: unknown;
  testEnv?: Record<string, string>;
  /** Set by the runner, in the window. */
  told?(event: unknown): Promise<void>;
}

const host = globalThis as unknown as Host & {
  postMessage(message: unknown): void;
};
const query = new URL(location.href).searchParams;
const file = query.get("file") ?? "";

async function runHere(tell: (event: unknown) => unknown): Promise<void> {
  host.testEnv = JSON.parse(query.get("env") ?? "{}");
  try {
    await import(new URL(file, location.origin).href);
    const tests = matching(query.get("filter") ?? "");
    for (let i = Number(query.get("from")); i < tests.length; i++) {
      await tell({ begun: [i, tests[i]!.name] });
      const outcome = await execute(tests[i]!);
      await tell({ outcome });
      // What a failed test leaves must not make others fail.
      if (outcome.error !== undefined) return void await tell({ next: i + 1 });
    }
    await tell({ end: true });
  } catch (error) {
    await tell({ crash: `${(error as Error)?.stack ?? error}` });
  }
}

function runInWorker(tell: (event: unknown) => unknown): void {
  const url = new URL(location.href);
  url.pathname = "/browser/page.ts";
  const worker = new Worker(url, { type: "module" });
  worker.onmessage = ({ data }) => tell(data);
  worker.onerror = (event) => tell({ crash: event.message ?? "not loaded" });
}

if (!host.document) await runHere((event) => host.postMessage(event));
else if (query.get("in") === "worker") {
  runInWorker((event) => host.told!(event));
} else await runHere((event) => host.told!(event));
