/**
 * The ports of a queue: in the owner's thread its core, its own handle and a
 * port for every other handle; in the other threads the other ends of those.
 */

import { Client, type OwnerPort } from "./_client.ts";
import { NOTHING, QueueCore } from "./_core.ts";
import { Handle } from "./_handle.ts";
import { type Descriptor, malformed } from "./_handoff.ts";
import { peerOf } from "./_locks.ts";
import { Outbox, type Post } from "./_outbox.ts";
import { adopt, isPort, openChannel, type OpenPort } from "./_port.ts";
import {
  isTransferred,
  sharedWords,
  type Transferable,
  uniqueName,
} from "./_runtime.ts";
import { stored } from "./_snapshot.ts";
import { textOf } from "./_text.ts";
import {
  EOF,
  type Frame,
  PUT,
  PUT_PARCEL,
  PUT_SEVERAL,
  PUT_WAIT,
  SHARE,
} from "./_wire.ts";
import { HANDLE_WORDS, POSTED, QUEUE_WORDS, SHARED } from "./_words.ts";

// Queues that are owned by this thread, for handles that come back to it.
const owners = new Map<string, { deref(): Owner | undefined }>();

/** A queue in the thread that owns it. */
export class Owner {
  readonly id: string = uniqueName();
  readonly #core: QueueCore;
  /** Its words, when they are shared. */
  readonly #words = sharedWords(QUEUE_WORDS);

  constructor(maxsize: number, joinable: boolean) {
    const words = this.#words ?? new Int32Array(QUEUE_WORDS);
    this.#core = new QueueCore(words, maxsize, joinable);
    const weak = typeof WeakRef === "function";
    owners.set(this.id, weak ? new WeakRef(this) : { deref: () => this });
  }

  /** A handle in this thread. */
  localClient(): Client {
    const core = this.#core;
    const mine = new Int32Array(HANDLE_WORDS);
    const handle = new Handle(
      (frame) => client.receive(frame as Frame),
      mine,
      true,
    );
    const port: OwnerPort = {
      put: (item) => core.receive(handle, [PUT, stored(item)], true),
      post: (frame) => {
        const [tag, , , items] = frame as Frame;
        const waits = tag === PUT_WAIT;
        if (waits) frame[3] = (items as unknown[]).map(stored);
        if (tag === EOF) core.gone(handle);
        else core.receive(handle, frame as Frame, waits);
        this.#endIfClosed();
      },
      take: () => core.take(),
      close: () => {},
      share: () => this.share(),
    };
    const client: Client = new Client(
      port,
      core.maxsize,
      core.joinable,
      core.words,
      mine,
    );
    core.handles.add(handle);
    return client;
  }

  /** Makes one more handle, for another thread. */
  share(): Descriptor {
    const { maxsize, joinable } = this.#core;
    const { id } = this;
    return extend(
      { kind: "queue", id, maxsize, joinable, words: this.#words },
      (port, mine) => this.#admit(port, mine),
    );
  }

  /** Serves a handle that is at the other side of a port. */
  #admit(port: OpenPort, words: Int32Array | undefined): void {
    const core = this.#core;
    const handle = new Handle(
      (frame, transfer, text) => {
        port.post(text ? textOf(frame) : frame, transfer);
      },
      words,
      false,
    );
    core.handles.add(handle);
    const gone = () => {
      port.close();
      core.gone(handle);
      this.#endIfClosed();
    };
    port.start({
      frame: (_, frame, text) => {
        if (frame[0] === EOF) return gone();
        if (frame[0] === SHARE) return this.#shareFrom(handle, frame);
        core.receive(handle, frame, text);
        if (handle.closed) this.#endIfClosed();
      },
      gone,
    });
  }

  #shareFrom(sharer: Handle, [, port, mine]: Frame): void {
    if (!isPort(port)) return;
    this.#admit(adopt(port), isWords(mine, HANDLE_WORDS) ? mine : undefined);
    if (!sharer.blind) sharer.shared = (sharer.shared + 1) | 0;
    this.#core.changed(); // who counts anew has waited for that
  }

  /** When no handle can get any more, what is left is dropped. */
  #endIfClosed(): void {
    for (const handle of this.#core.handles) if (!handle.closed) return;
    this.#core.end();
    owners.delete(this.id);
  }
}

/** A channel for one more handle: one end for the owner, one to travel. */
function extend(
  descriptor: Descriptor,
  admit: (port: OpenPort, mine: Int32Array | undefined) => void,
): Descriptor {
  const [here, there] = openChannel();
  const mine = descriptor.words ? sharedWords(HANDLE_WORDS) : undefined;
  admit(here, mine);
  const peer = peerOf(there);
  return { ...descriptor, port: there.give(), mine, peer };
}

/** The queue that a descriptor describes, as seen from this thread. */
export function clientFrom(descriptor: Descriptor): Client {
  const { id, maxsize, joinable, port, words, mine } = descriptor;
  if (
    typeof id !== "string" || typeof maxsize !== "number" ||
    typeof joinable !== "boolean" ||
    !isPort(port) ||
    (words !== undefined || mine !== undefined) &&
      !(isWords(words, QUEUE_WORDS) && isWords(mine, HANDLE_WORDS))
  ) throw malformed();
  const opened = adopt(port, descriptor.peer);
  const owner = owners.get(id)?.deref();
  if (!owner) return remoteClient(opened, descriptor);
  // Back in the owner's thread: the port is not needed.
  opened.post([EOF]);
  opened.close();
  return owner.localClient();
}

/** A handle whose owner is at the other side of a port. */
export function remoteClient(port: OpenPort, descriptor: Descriptor): Client {
  const { maxsize, joinable } = descriptor;
  const words = descriptor.words as Int32Array | undefined;
  const mine = descriptor.mine as Int32Array | undefined;
  const send: Post = (frame, transfer, count = 0) => {
    if (count === 0 || !mine) return port.post(frame, transfer);
    Atomics.add(mine, POSTED, count);
    try {
      port.post(frame, transfer);
    } catch (error) {
      Atomics.sub(mine, POSTED, count);
      throw error;
    }
  };
  const outbox = new Outbox(send, PUT, PUT_SEVERAL, () => {});
  const post: OwnerPort["post"] = (frame, transfer) => {
    outbox.flush();
    const tag = frame[0] as number;
    // It holds no items and no ports: JSON keeps all of it.
    if (tag > PUT_WAIT && !transfer) return port.post(textOf(frame));
    send(frame, transfer, tag === PUT || tag === PUT_PARCEL ? 1 : 0);
  };
  const client = new Client(
    {
      put: (item) => outbox.push(item),
      post,
      take: () => NOTHING,
      close: () => port.close(),
      share: () =>
        extend(descriptor, (here, words) => {
          const raw = here.give();
          if (mine) Atomics.add(mine, SHARED, 1);
          post([SHARE, raw, words], [raw]);
        }),
    },
    maxsize as number,
    joinable as boolean,
    words,
    mine,
  );
  port.start({
    frame: (_, frame) => client.receive(frame),
    gone: () => client.ownerEnded(),
  });
  return client;
}

/** The ports in a descriptor. */
export function portsOf({ port }: Descriptor): Transferable[] {
  return isTransferred(port) ? [port] : [];
}

function isWords(value: unknown, length: number): value is Int32Array {
  return ArrayBuffer.isView(value) && (value as Int32Array).length === length &&
    // Where a realm has classes of its own, what arrives is of another.
    (value as Int32Array)[Symbol.toStringTag] === "Int32Array";
}
