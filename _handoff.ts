/**
 * Endpoints inside messages. `prepare` swaps each endpoint in a value for a
 * descriptor and `unpack` makes live endpoints of them again. Endpoints are
 * looked for in plain objects and arrays only; anywhere else the platform
 * refuses to clone them, since each carries a field that cannot be cloned.
 */

import { OSError } from "./errors.ts";
import { scrap } from "./_port.ts";
import {
  failedClonesMove,
  isProxy,
  isTransferred,
  type Transferable,
} from "./_runtime.ts";
import { isList, isPlain } from "./_snapshot.ts";
import { isBuffer } from "./_wire.ts";

/** The field by which an endpoint refuses to be cloned by itself. */
export const UNCLONEABLE: unique symbol = Symbol(
  "an endpoint: it travels only in plain objects and arrays, through pack(), send() and put() of the copy of this module that made it",
);

/** The plain description of an endpoint on its way. */
export interface Descriptor {
  kind: string;
  [field: string]: unknown;
}

/** What this module needs of an endpoint to hand it over. */
export interface Endpoint {
  /** Throws when it cannot be handed over (closed; through itself). */
  check(through: string | undefined): void;
  /** Hands it over: moved or shared. Only after all checks have passed. */
  give(): Descriptor;
}

const KEY = "@ipc/multiprocessing";
const VERSION = 1;

/** Where an endpoint belongs: in which object of the message, by which key; and its number. */
type Place = [holder: object, key: string, number: number];

/** A message with endpoints in it, as it travels. */
interface Packed extends Box {
  [KEY]: typeof VERSION;
  endpoints: Descriptor[];
  places: Place[];
  /** What was transferred besides: it has to be again when passed on unread. */
  moved: Transferable[];
}

/** What becomes the message: so the value, too, has a holder and a key. */
interface Box {
  value: unknown;
}

interface Kind {
  /** The inside of a public object of this kind; `undefined` for any other object. */
  of(value: object): Endpoint | undefined;
  /** Makes a live endpoint; throws `TypeError` when the descriptor is not right. */
  make(descriptor: Descriptor): { close(): void };
  /** The ports in a descriptor. */
  ports(descriptor: Descriptor): Transferable[];
}

const kinds = new Map<string, Kind>();

/** Says how endpoints of a kind come to life. */
export function register(kind: string, how: Kind): void {
  kinds.set(kind, how);
}

function endpointOf(value: object): Endpoint | undefined {
  for (const kind of kinds.values()) {
    const endpoint = kind.of(value);
    if (endpoint !== undefined) return endpoint;
  }
  return undefined;
}

// --- Packing -----------------------------------------------------------------

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

/**
 * A copy of plain objects and arrays, with identity and cycles kept; `other`
 * says what takes the place of any other object in them.
 *
 * @param copies Has the copies afterwards, by original.
 */
function copyWith<T extends object>(
  root: T,
  other: (part: object, holder: object, key: string) => unknown,
  copies: Map<object, object> = new Map(),
): T {
  const begin = (original: object): object => {
    const made = isList(original) ? new Array(original.length) : {};
    copies.set(original, made);
    return made;
  };
  const part = (field: object, holder: object, key: string): unknown => {
    const known = copies.get(field);
    if (known !== undefined) return known;
    // A proxy is for the platform to refuse.
    const plain = !isProxy(field) && (isList(field) || isPlain(field));
    return plain ? begin(field) : other(field, holder, key);
  };
  const copy = begin(root) as T;
  // Grows as it goes: there may be more levels than calls have room on the stack.
  for (const [original, made] of copies) {
    // Keys, not indices: holes stay holes, named properties go along.
    for (const key of Object.keys(original)) {
      const field = (original as Record<string, unknown>)[key];
      set(made, key, isObject(field) ? part(field, made, key) : field);
    }
  }
  return copy;
}

/** Sets an own property, whatever is inherited under its name. */
function set(target: object, key: string, value: unknown): void {
  Object.defineProperty(target, key, {
    value,
    enumerable: true,
    configurable: true,
    writable: true,
  });
}

/**
 * Makes a value with endpoints in it ready for `postMessage`.
 *
 * Connections in it move: here they are closed. Queues in it are shared: here
 * they stay open. Endpoints are found in plain objects and arrays, at any
 * depth, and as the value itself. There is no Python counterpart: there,
 * processes inherit endpoints. Post the message at once: Node refuses one with
 * an end whose other side has gone since, and what holds no endpoint is still
 * the caller's own.
 *
 * @param value The value to hand over.
 * @returns The message and its transfer list: the arguments of `postMessage`.
 * @throws {OSError} An endpoint in the value is closed. Nothing was moved.
 *
 * @example
 * ```ts
 * import { pack, Pipe, unpack } from "@ipc/multiprocessing";
 *
 * const [parent, child] = Pipe<string>();
 * const { port1, port2 } = new MessageChannel(); // or a worker
 * const received = new Promise<string>((done) => {
 *   port2.onmessage = async (event) => {
 *     const { conn } = unpack<{ conn: typeof child }>(event.data);
 *     done(await conn.recv());
 *     conn.close();
 *   };
 * });
 * port1.postMessage(...pack({ conn: child }));
 * await parent.send("hello");
 * console.assert(await received === "hello");
 * parent.close();
 * port1.close();
 * port2.close();
 * ```
 */
export function pack(
  value: unknown,
): [message: unknown, transfer: never[]] {
  const { message, transfer } = survey(value).commit();
  const { endpoints } = message as Packed;
  for (const port of transfer) arrived.delete(port as MessagePort);
  unposted?.register(endpoints, [...transfer], endpoints);
  // Ports, for which each platform has a type of its own: `never` is any of them.
  return [message, transfer as never[]];
}

// A message that was never posted, or posted to a worker that had ended, leaves
// its ports here. Those that have gone, or have an owner, are not touched.
const unposted: FinalizationRegistry<Transferable[]> | undefined =
  typeof FinalizationRegistry === "function"
    ? new FinalizationRegistry((ports) =>
      scrap(ports.filter((port) => !arrived.has(port as MessagePort)))
    )
    : undefined;

/** What came in with messages: in Bun a clone holds the ports themselves, and those of an end that lies unread have no owner yet. */
const arrived = new WeakSet<MessagePort>();

/** Something to be posted by itself: a value with endpoints or transfers. */
export class Parcel {
  readonly message: unknown;
  constructor(message: unknown) {
    this.message = message;
  }

  get transfer(): Transferable[] {
    return transferOf(this.message);
  }
}

/** A value and its endpoints, before anything moves. */
export class Draft {
  /** The public objects: nobody else may hold them, and dropped ones close. */
  readonly #held: object[];
  #box: Box;
  #places: Place[];
  /** What was transferred into it. */
  moved: Transferable[] = [];

  constructor(held: object[], box: Box, places: Place[]) {
    this.#held = held;
    this.#box = box;
    this.#places = places;
  }

  /** The value, without its endpoints. */
  get value(): unknown {
    return this.#box.value;
  }

  /** Whether it can be kept and cloned like any other value. */
  get plain(): boolean {
    return this.#held.length === 0 && this.moved.every(isBuffer);
  }

  /** Makes it a snapshot; the parts to transfer are transferred. */
  clone(transfer: Transferable[]): void {
    if (transfer.length > 0 && failedClonesMove()) {
      rehearse(this.#box, transfer);
    }
    const parts = [this.#box, this.#places, transfer];
    [this.#box, this.#places, this.moved] = structuredClone(parts, {
      transfer,
    }) as [Box, Place[], Transferable[]];
  }

  /** Throws when one of the endpoints cannot travel, or not through the given pipe. */
  check(through?: string): void {
    for (const held of this.#held) endpointOf(held)!.check(through);
  }

  /** Hands the endpoints over; throws `OSError` when one has been closed since. */
  commit(): Parcel {
    this.check();
    const packed: Packed = Object.assign(
      this.#box,
      {
        [KEY]: VERSION,
        endpoints: this.#held.map((held) => endpointOf(held)!.give()),
        places: this.#places,
        moved: this.moved,
      } as const,
    );
    return new Parcel(packed);
  }
}

/** Finds the endpoints in a value, and copies the plain part of it. */
function survey(value: unknown): Draft {
  const held: object[] = [];
  const places: Place[] = [];
  const copies = new Map<object, object>();
  const box = copyWith({ value }, (part, holder, key) => {
    if (endpointOf(part) === undefined) return part;
    let number = held.indexOf(part);
    if (number < 0) number = held.push(part) - 1;
    places.push([holder, key, number]);
    return null;
  }, copies);
  if (held.length === 0) return new Draft([], { value }, []);
  restore(copies, places.map(([holder]) => holder));
  return new Draft(held, box, places);
}

/**
 * Puts the originals back in the places of those copies that lead to none of
 * some holders: a map or an instance that also refers to one still does.
 */
function restore(copies: Map<object, object>, holders: object[]): void {
  const originals = new Map<unknown, object>();
  const found = new Map<object, [holder: object, key: string][]>();
  for (const [original, copy] of copies) {
    originals.set(copy, original);
    found.set(copy, []);
  }
  for (const holder of copies.values()) {
    for (const [key, value] of Object.entries(holder)) {
      found.get(value)?.push([holder, key]);
    }
  }
  const leading = new Set(holders);
  for (const copy of leading) {
    for (const [holder] of found.get(copy)!) leading.add(holder);
  }
  for (const [copy, at] of found) {
    if (leading.has(copy)) continue;
    for (const [holder, key] of at) set(holder, key, originals.get(copy));
  }
}

/**
 * Makes a snapshot of a value that holds endpoints or parts to transfer.
 * Everything is checked; the parts are transferred, the endpoints stay.
 *
 * @param through The pipe that it is to travel through, which must not be its own.
 * @returns The snapshot; `plain` when the value holds nothing of the kind.
 */
export function prepare(
  value: unknown,
  transfer: readonly Transferable[] | undefined,
  through?: string,
): Draft {
  const draft = survey(value);
  draft.check(through);
  draft.clone([...transfer ?? []]);
  return draft;
}

/**
 * Throws `DataCloneError` when the clone would fail, by cloning all but what
 * is to be transferred. Not where a port is hidden in a class instance or a map.
 */
function rehearse(box: Box, transfer: Transferable[]): void {
  const moves = new Set<unknown>(transfer);
  if (moves.size < transfer.length) {
    throw new DOMException(
      "Cannot transfer: a part is given twice",
      "DataCloneError",
    );
  }
  const found = new Set<unknown>();
  const rest = copyWith(box, (part) => {
    const moved = ArrayBuffer.isView(part) ? part.buffer : part;
    if (!moves.has(moved)) return part;
    found.add(moved);
    return undefined;
  });
  // Buffers that are hidden in other objects are copied in vain.
  for (const part of transfer) {
    if (!found.has(part) && !isBuffer(part)) return;
  }
  structuredClone(rest);
}

// --- Unpacking ---------------------------------------------------------------

// A message is unpacked once: its ports have an owner from then on.
const unpacked = new WeakSet<object>();

function isPacked(message: unknown): message is Packed {
  return isObject(message) && Object.hasOwn(message, KEY) &&
    (message as Packed)[KEY] === VERSION;
}

/** What a message that was not made by `pack` is refused with. */
export function malformed(): TypeError {
  return new TypeError("Cannot unpack: the message is malformed");
}

function kindOf(descriptor: unknown): Kind | undefined {
  return isObject(descriptor)
    ? kinds.get((descriptor as Descriptor).kind)
    : undefined;
}

/** Whether a message is one that can be unpacked, as far as can be seen from outside. */
export function isParcel(message: unknown): message is Packed {
  return isPacked(message) && Array.isArray(message.endpoints) &&
    message.endpoints.every(kindOf) && Array.isArray(message.places) &&
    message.places.every(Array.isArray) && Array.isArray(message.moved);
}

/**
 * Makes live endpoints of what {@linkcode pack} made of them.
 *
 * @typeParam T What the message holds.
 * @param message What arrived: `event.data`, not the event. Once: an endpoint has one owner.
 * @returns The value, with its endpoints open in this thread; a message that
 * `pack` did not make is returned unchanged.
 * @throws {TypeError} The message was unpacked before, or is malformed.
 *
 * @example
 * ```ts
 * import { unpack } from "@ipc/multiprocessing";
 *
 * console.assert(unpack("plain") === "plain");
 * ```
 */
export function unpack<T = unknown>(message: unknown): T {
  if (!isPacked(message)) return message as T;
  if (unpacked.has(message)) {
    throw new TypeError("Cannot unpack: the message has been unpacked before");
  }
  unpacked.add(message);
  const { endpoints } = message;
  // In this thread: the ports have an owner from now on, whoever that will be.
  if (isObject(endpoints)) unposted?.unregister(endpoints);
  if (!isParcel(message)) {
    scrap(endpoints);
    throw malformed();
  }
  for (const part of partsOf(message)) {
    if (isTransferred(part)) arrived.add(part);
  }
  const made: { close(): void }[] = [];
  try {
    for (const descriptor of endpoints) {
      made.push(kindOf(descriptor)!.make(descriptor));
    }
    for (const [holder, key, number] of message.places) {
      const endpoint = made[number];
      if (!endpoint || !isObject(holder) || !Object.hasOwn(holder, key)) {
        throw malformed();
      }
      set(holder, String(key), endpoint);
    }
    return message.value as T;
  } catch (error) {
    for (const endpoint of made) endpoint.close();
    scrap(endpoints.slice(made.length));
    throw error instanceof OSError || error instanceof TypeError
      ? error
      : malformed();
  }
}

/** Closes the endpoints in a parcel that nobody will read. */
export function drop(parcel: unknown): void {
  for (const descriptor of (parcel as Packed).endpoints) {
    try {
      kindOf(descriptor)!.make(descriptor).close();
    } catch {
      // Malformed: nothing to close.
    }
  }
}

/** What has to be transferred when a packed message is passed on unread. */
export function transferOf(message: unknown): Transferable[] {
  return isParcel(message) ? partsOf(message) : [];
}

function partsOf({ endpoints, moved }: Packed): Transferable[] {
  return [
    ...moved,
    ...endpoints.flatMap((descriptor) => kindOf(descriptor)!.ports(descriptor)),
  ];
}
