/**
 * A message channel within one isolate, for edge runtimes that have none, or
 * one that transfers nothing and loses what is queued when it closes: what
 * `_port.ts` uses of the platform's, and no more.
 */

import type { Transferable } from "./_runtime.ts";
const { setImmediate } = globalThis as unknown as {
  setImmediate?: (run: () => void) => unknown;
};

/** So many deliveries as microtasks, then macrotasks until one has run: streams leave room for others (but in workerd). */
const SPELL = 1024;
let spell = 0;
let when = 0;

/** Hardly ever in a macrotask: in workerd it belongs to the request that asked for it, and is dropped when that ends. */
function later(run: () => void): void {
  // There a spell ends with its millisecond: nothing else tells that an event, and its request, may have ended.
  if (globalThis.performance?.timeOrigin === 0 && when !== Date.now()) {
    when = Date.now();
    spell = 0;
  }
  if (++spell < SPELL) return queueMicrotask(run);
  const rested = () => {
    spell = 0;
    run();
  };
  if (setImmediate) setImmediate(rested);
  else setTimeout(rested);
}

type Listener = (event: MessageEvent) => void;

// Nothing can be transferred: a message holds the name of a port that travels.
const travelling = new Map<unknown, LocalPort>();

/** Whether it is the name of a port that travels. */
export function isTravelling(name: unknown): boolean {
  return travelling.has(name);
}

/** The port that travelled under a name. */
export function arrived(name: unknown): LocalPort {
  const port = travelling.get(name)!;
  travelling.delete(name);
  return port;
}

/** One of two entangled ports. */
export class LocalPort {
  #other: LocalPort | undefined;
  #started = false;
  #queue: unknown[] = [];
  #listener: Listener | undefined;

  /** Two of them. */
  static pair(): { port1: LocalPort; port2: LocalPort } {
    const [port1, port2] = [new LocalPort(), new LocalPort()];
    port1.#other = port2;
    port2.#other = port1;
    return { port1, port2 };
  }

  /** Queues a clone at the other port. */
  postMessage(message: unknown, transfer?: Transferable[]): void {
    const data = structuredClone(message, transfer && { transfer });
    const other = this.#other;
    if (!other) return;
    other.#queue.push(data);
    other.#schedule();
  }

  /** Begins to receive. */
  start(): void {
    this.#started = true;
    if (this.#queue.length > 0) this.#schedule();
  }

  /** Stops, and goes on where its name arrives. */
  travel(name: string): string {
    this.#started = false;
    travelling.set(name, this);
    return name;
  }

  /** What is queued here. */
  take(): unknown[] {
    return this.#queue.splice(0);
  }

  /** What has been posted still arrives at the other port. */
  close(): void {
    if (this.#other) this.#other.#other = undefined;
    this.#other = undefined;
    this.#queue = [];
    this.#listener = undefined;
  }

  /** As that of an `EventTarget`; there are no events but messages, and one listener. */
  addEventListener(type: string, listener: Listener): void {
    if (type === "message") this.#listener = listener;
  }

  /** As that of an `EventTarget`. */
  removeEventListener(_: string, listener: Listener): void {
    if (this.#listener === listener) this.#listener = undefined;
  }

  #schedule(): void {
    if (this.#started) later(() => this.#dispatch());
  }

  #dispatch(): void {
    while (this.#started && this.#queue.length > 0) {
      const data = this.#queue.shift();
      this.#listener?.({ data } as MessageEvent);
    }
  }
}

/** As `new MessageChannel()`. */
export function localChannel(): { port1: MessagePort; port2: MessagePort } {
  return LocalPort.pair() as unknown as MessageChannel;
}
