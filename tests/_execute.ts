// Runs the registry of the harness, where there is no test runner. Knows nothing of the runtime.

import { type Registered, registry } from "./_harness.ts";
import type { Outcome } from "./_report.ts";

function text(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { name, message, stack = "" } = error;
  return stack.includes(message) ? stack : `${name}: ${message}\n${stack}`;
}

/** Runs one test. */
export async function execute(test: Registered): Promise<Outcome> {
  const { name } = test;
  if (test.skip) return { name };
  const begun = performance.now();
  const output: string[] = [];
  const { log } = console;
  console.log = (...data) => output.push(data.map(String).join(" "));
  try {
    await test.run();
    return { name, ms: performance.now() - begun, output };
  } catch (error) {
    return { name, error: text(error), output };
  } finally {
    console.log = log;
  }
}

/** The tests whose name contains the filter. */
export function matching(filter: string): Registered[] {
  return registry.filter(({ name }) => name.includes(filter));
}
