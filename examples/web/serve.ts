// `deno task web`: bundles the page, and serves it.
//
//     deno task web                       http://localhost:8000/
//     deno task web --port 8080
//     deno task web --no-isolation        without shared memory; or ?isolated=no in the page's address

import * as esbuild from "esbuild";

const HERE = import.meta.dirname!;

const TYPES: Record<string, string> = {
  html: "text/html;charset=utf-8",
  css: "text/css;charset=utf-8",
  ts: "text/javascript;charset=utf-8",
};

/** A page that comes with these may share memory with its workers. */
const ISOLATION = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};

/** Makes scripts of modules; what they share is in chunks beside them. */
async function bundle(modules: string[]): Promise<Map<string, string>> {
  const { outputFiles } = await esbuild.build({
    absWorkingDir: HERE,
    entryPoints: modules.map((path) => ({
      in: path,
      out: path.replace(/^.*[\\/]|\.ts$/g, ""),
    })),
    outdir: "/",
    outExtension: { ".js": ".ts" }, // `new URL("./worker.ts", import.meta.url)` finds it
    bundle: true,
    splitting: true,
    format: "esm",
    target: "es2022",
    write: false,
    logLevel: "error",
  });
  await esbuild.stop();
  return new Map(
    outputFiles.map(({ path, text }) => [path.replace(/^.*[\\/]/, "/"), text]),
  );
}

/** What {@linkcode serve} takes. */
export interface Options {
  /** 0: any that is free. */
  port: number;
  /** Whether to send the headers without which there is no shared memory. */
  isolation: boolean;
  /** Modules to serve besides those of the page, as paths. */
  more?: string[];
  onListen?: (address: Deno.NetAddr) => void;
}

/** Serves the page. */
export async function serve(
  { port, isolation, more = [], onListen = () => {} }: Options,
): Promise<Deno.HttpServer<Deno.NetAddr>> {
  const files = await bundle([
    "main.ts",
    "worker.ts",
    "mandelbrot.ts",
    ...more,
  ]);
  for (const name of ["index.html", "style.css"]) {
    files.set(`/${name}`, await Deno.readTextFile(`${HERE}/${name}`));
  }
  return Deno.serve({ port, hostname: "localhost", onListen }, ({ url }) => {
    const { pathname, searchParams } = new URL(url);
    const path = pathname === "/" ? "/index.html" : pathname;
    const text = files.get(path);
    if (text === undefined) return new Response("Not found", { status: 404 });
    const isolated = isolation && searchParams.get("isolated") !== "no";
    return new Response(text, {
      headers: {
        "content-type": TYPES[path.replace(/^.*\./, "")]!,
        "cache-control": "no-store",
        // A worker needs them too; it shares memory only when its page does.
        ...(isolated ? ISOLATION : {}),
      },
    });
  });
}

function portOf(args: string[]): number {
  const given = args.find((arg) => arg.startsWith("--port="))?.slice(7) ??
    (args.includes("--port") ? args[args.indexOf("--port") + 1] : "8000");
  const port = Number(given);
  if (Number.isInteger(port) && port >= 0 && port < 65536) return port;
  console.error(`Cannot serve: ${given} is no port`);
  Deno.exit(1);
}

if (import.meta.main) {
  await serve({
    port: portOf(Deno.args),
    isolation: !Deno.args.includes("--no-isolation"),
    onListen: ({ port }) => console.log(`http://localhost:${port}/`),
  });
}
