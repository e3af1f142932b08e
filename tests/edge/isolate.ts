// In an edge runtime: answers a request with what became of one test. A bundle adds the test files.

import { execute } from "../_execute.ts";
import { registry } from "../_harness.ts";
import { type Connection, Pipe } from "../../mod.ts";

interface EdgeEvent {
  request: Request;
  respondWith(response: Promise<Response>): void;
}

/** Of the pipe between two requests: where the second one sends. */
let sender: Connection | undefined;

/** One request waits for what another, which then ends at once, sends; `null`: the first one has not begun. */
async function across(step: string): Promise<unknown> {
  if (step === "send") {
    await sender?.send("from another request");
    return sender ? "sent" : null;
  }
  const [here, there] = Pipe();
  sender = there;
  const message = await here.recv();
  here.close();
  there.close();
  sender = undefined;
  return message;
}

/**
 * `GET /` tells the names of the tests, `GET /?test=N` runs one;
 * `/?step=receive` and `/?step=send` are the two sides of {@linkcode across}.
 */
export async function answer(request: Request): Promise<Response> {
  const { searchParams } = new URL(request.url);
  const number = searchParams.get("test");
  const step = searchParams.get("step");
  const body = step !== null
    ? await across(step)
    : number === null
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
