// Workers as the benches need them: the same few lines in Deno, Bun and Node.

interface NodePort {
  on(type: string, listener: (value: unknown) => void): void;
  postMessage(message: unknown, transfer?: Transferable[]): void;
}

interface NodeWorker extends NodePort {
  terminate(): Promise<number>;
}

interface NodeThreads {
  Worker: new (url: URL) => NodeWorker;
  parentPort: NodePort | null;
}

interface Process {
  getBuiltinModule?(name: string): unknown;
}

type Post = (message: unknown, transfer?: Transferable[]) => void;

/** A worker that listens. */
export interface Thread {
  post: Post;
  end(): Promise<void>;
}

// Node alone has no web Worker.
const node = typeof Worker === "undefined"
  ? (globalThis as { process?: Process }).process?.getBuiltinModule?.(
    "node:worker_threads",
  ) as NodeThreads
  : undefined;

/** Starts a file of `workers/` and waits until it listens. */
export function thread(file: string): Promise<Thread> {
  const url = new URL(`./workers/${file}`, import.meta.url);
  return new Promise((done, failed) => {
    if (node) {
      const worker = new node.Worker(url);
      worker.on("error", failed);
      worker.on("message", () =>
        done({
          post: (message, transfer) => worker.postMessage(message, transfer),
          end: async () => void await worker.terminate(),
        }));
      return;
    }
    const worker = new Worker(url, { type: "module" });
    worker.onerror = (event) => failed((event as ErrorEvent).error ?? event);
    worker.onmessage = () =>
      done({
        post: (message, transfer = []) => worker.postMessage(message, transfer),
        end: () => Promise.resolve(worker.terminate()),
      });
  });
}

/** In a worker: receives what its maker posts, and says that it listens. */
export function listen(receive: (data: unknown) => void): void {
  if (node?.parentPort) {
    node.parentPort.on("message", receive);
    node.parentPort.postMessage("ready");
    return;
  }
  const scope = globalThis as unknown as {
    onmessage: (event: MessageEvent) => void;
    postMessage: Post;
  };
  scope.onmessage = (event) => receive(event.data);
  scope.postMessage("ready");
}

/** Collects garbage in this thread; Deno and Node have to be told that one may (`--expose-gc`). */
export async function collect(): Promise<void> {
  const { gc, Bun } = globalThis as {
    gc?(): void;
    Bun?: { gc(force: boolean): void };
  };
  for (let i = 0; i < 4; i++) {
    await new Promise((done) => setTimeout(done, 20));
    if (Bun) Bun.gc(true);
    else gc!();
  }
}
