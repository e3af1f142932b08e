// The bundler, for the runtimes that take no TypeScript: the browsers, workerd, edge-runtime.

import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";
import { ROOT } from "./_tools.ts";

/** Finds the stand-ins for `@std/*`, which the tests import. */
const ALIAS: Record<string, string> = {
  "@std/assert": "./tests/std/assert.ts",
  "@std/async": "./tests/std/async.ts",
  "@ipc/multiprocessing": "./mod.ts",
};

/** Files of tests that know nothing of the platform: one run on each engine is enough. */
export const PURE: string[] = [
  "queue_interleavings_test.ts",
  "queue_model_test.ts",
];

/** Keeps published files out of a bundle of tests. */
function outside(names: string[]): esbuild.Plugin {
  return {
    name: "outside",
    setup(build) {
      build.onResolve({ filter: /^(\.\.\/)+\w+\.ts$/ }, ({ path }) => {
        const name = path.replace(/^.*\//, "");
        return names.includes(name)
          ? { path: `/published/${name}`, external: true }
          : undefined;
      });
    },
  };
}

/**
 * Bundles entry points that stay apart, as any web bundler does it: shared
 * code is in chunks beside them, so that `new URL("./workers/x.ts",
 * import.meta.url)` and `import(url)` find what they name.
 *
 * @param entries Paths in the repository.
 * @param apart The names of published files that stay out: imported from `/published/`.
 * @returns The text of each output, by its path below `base`, with the extension `.ts`.
 */
export async function bundleApart(
  entries: string[],
  base: string,
  apart: string[] = [],
): Promise<Map<string, string>> {
  const { outputFiles } = await esbuild.build({
    absWorkingDir: ROOT,
    entryPoints: entries,
    outbase: base,
    outdir: "/",
    outExtension: { ".js": ".ts" },
    chunkNames: "[name]-[hash]",
    alias: ALIAS,
    plugins: [outside(apart)],
    bundle: true,
    splitting: true,
    format: "esm",
    target: "esnext",
    platform: "browser",
    sourcemap: "inline",
    write: false,
    logLevel: "error",
  });
  await esbuild.stop();
  return new Map(outputFiles.map(({ path, text }) => [path, text]));
}

/** Bundles one module, given as text that imports by paths of `tests/`. */
export async function bundleOne(
  text: string,
  options: esbuild.BuildOptions = {},
): Promise<string> {
  const { outputFiles } = await esbuild.build({
    absWorkingDir: ROOT,
    stdin: { contents: text, resolveDir: `${ROOT}/tests`, loader: "ts" },
    alias: ALIAS,
    bundle: true,
    format: "esm",
    target: "esnext",
    write: false,
    logLevel: "error",
    ...options,
  });
  await esbuild.stop();
  return outputFiles![0]!.text;
}

/** How many bytes the module takes, minified and gzipped. */
export async function moduleSize(): Promise<number> {
  const code = await bundleOne('export * from "../mod.ts";', { minify: true });
  return gzipSync(code, { level: 9 }).length;
}
