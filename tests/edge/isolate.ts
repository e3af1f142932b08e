// In an edge runtime: answers a request with what became of one test. A bundle adds the test files.

import { execute } from "../_execute.ts";
import { registry } from "../_harness.ts";

interface EdgeEvent {
  request: Request;
  respondWith(response: Promise<Response>): void;
}

/** `GET /` tells the names of the tests, `GET /?test=N` runs one. */
export async function answer(request: Request): Promise<Response> {
  const number = new URL(request.url).searchParams.get("test");
  const body = number === null
    ? registry.map(({ name }) => name)
    : await execute(registry[Number(number)]!);
  return new Response(JSON.stringify(body));
}

/** Where there are no module workers: listens for requests. */
export function listen(): void {
  addEventListener("fetch", (event) => {
    const { request, respondWith } = event as unknown as EdgeEvent;
    respondWith.call(event, answer(request));
  });
}
