// The rows in headless Chromium: in a window, with workers.

import { bundleApart } from "../tests/_bundle.ts";
import { installed, launch } from "../tests/browser/launch.ts";
import { serve } from "../tests/browser/serve.ts";
import type { Result } from "./_rows.ts";

/** Whether there is a Chromium. */
export function hasChromium(): boolean {
  return installed("chromium") !== undefined;
}

function bundle(files: string[]): Promise<Map<string, string>> {
  const workers = [...Deno.readDirSync(`${import.meta.dirname}/workers`)]
    .map(({ name }) => `workers/${name}`);
  const entries = ["main.ts", ...files, ...workers];
  return bundleApart(entries.map((name) => `bench/${name}`), "bench");
}

/**
 * Measures rows, and hands over each as it comes.
 *
 * @param isolated The page is cross-origin isolated: it has shared memory.
 * @returns The version of the browser.
 */
export async function measureInChromium(
  task: { files: string[] },
  isolated: boolean,
  hear: (result: Result) => void,
): Promise<string> {
  const server = serve(await bundle(task.files), isolated, "/main.ts");
  const browser = await launch("chromium");
  const done = Promise.withResolvers<void>();
  try {
    const tab = await browser.tab();
    const fragment = encodeURIComponent(JSON.stringify(task));
    await tab.open(
      `http://localhost:${server.addr.port}/#${fragment}`,
      (event) => {
        if (event.end) done.resolve();
        else if (event.error) done.reject(new Error(String(event.error)));
        else hear(event as unknown as Result);
      },
      (why) => done.reject(new Error(why)),
    );
    await done.promise;
    return browser.title.match(/\d+\.\d+\.\d+/)?.[0] ?? "unknown";
  } finally {
    await browser.close();
    await server.shutdown();
  }
}
