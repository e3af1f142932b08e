// What the documentation uses of `bullmq`, in one process: its code is run without Redis.

interface Job<T> {
  data: T;
}

type Processor = (job: Job<never>) => Promise<unknown>;

const processors = new Map<string, Processor>();

/** Puts jobs. */
export class Queue<T> {
  readonly #name: string;

  constructor(name: string, _options: { connection: { host: string } }) {
    this.#name = name;
  }

  async add(_name: string, data: T): Promise<void> {
    await processors.get(this.#name)?.({ data } as Job<never>);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Takes jobs. */
export class Worker<T> {
  constructor(
    name: string,
    processor: (job: Job<T>) => Promise<unknown>,
    _options: { connection: { host: string }; concurrency: number },
  ) {
    processors.set(name, processor as Processor);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
