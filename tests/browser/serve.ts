// Serves a bundle to a browser.

const ISOLATION = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};

/**
 * Serves the outputs of a bundle by their paths, and at `/` a page that runs one of them.
 *
 * @param isolated The page is cross-origin isolated: it has shared memory.
 * @param before A script that is run first.
 */
export function serve(
  outputs: Map<string, string>,
  isolated: boolean,
  script: string,
  before = "",
): Deno.HttpServer<Deno.NetAddr> {
  const headers = isolated ? ISOLATION : {};
  const page =
    `<!doctype html><title>page</title><script>${before}</script><script type="module" src="${script}"></script>`;
  return Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    ({ url }) => {
      const { pathname } = new URL(url);
      if (pathname === "/") {
        const type = { "content-type": "text/html;charset=utf-8" };
        return new Response(page, { headers: { ...headers, ...type } });
      }
      const text = outputs.get(pathname);
      const type = { "content-type": "text/javascript;charset=utf-8" };
      return new Response(text ?? "", {
        status: text === undefined ? 404 : 200,
        headers: { ...headers, ...type },
      });
    },
  );
}
