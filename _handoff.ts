/**
 * Endpoints inside messages. `prepare` swaps each endpoint in a value for a
 * descriptor and `unpack` makes live endpoints of them again. Endpoints are
 * looked for in plain objects and arrays only; anywhere else the platform
 * refuses to clone them, since each carries a field that cannot be cloned.
 */

import {
  failedClonesMove,
  isProxy,
  scrap,
  type Transferable,
} from "./_endpoint.ts";
import { OSError } from "./errors.ts";
import { isList, isPlain } from "./_snapshot.ts";

/** The field by which an endpoint refuses to be cloned by itself. */
export const UNCLONEABLE: unique symbol = Symbol(
  "an endpoint, which travels only inside pack(), send() and put():",
);

/** What an endpoint gives away: a plain description, and the ports in it. */
export interface Handed {
  descriptor: Descriptor;
  ports: MessagePort[];
}

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
  give(): Handed;
}

const KEY = "@ipc/multiprocessing";
const VERSION = 1;

/** A message with endpoints in it, as it travels. */
interface Packed {
  [KEY]: typeof VERSION;
  value: unknown;
  endpoints: Descriptor[];
  /** For each place of an endpoint in `value`: its number, then the keys. */
  places: (string | number)[][];
  /** What was transferred besides: it has to be again when passed on unread. */
  moved: Transferable[];
}

interface Kind {
  /** The inside of a public object of this kind; `undefined` for any other object. */
  of(value: object): Endpoint | undefined;
  /** Makes a live endpoint; throws `TypeError` when the descriptor is not right. */
  make(descriptor: Descriptor): object;
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

class Survey {
  readonly endpoints: Endpoint[] = [];
  readonly places: (string | number)[][] = [];
  readonly #numbers = new Map<object, number>();
  readonly #copies = new Map<object, unknown>();

  /** A copy of the plain part of a value, with `null` for each endpoint. */
  copy(value: unknown, path: (string | number)[]): unknown {
    if (typeof value !== "object" || value === null) return value;
    const known = this.#copies.get(value);
    if (known !== undefined) return known;
    if (isProxy(value)) return value; // for the platform to refuse
    const list = isList(value);
    if (!list && !isPlain(value)) return this.#endpoint(value, path);
    const copy: object = list ? new Array(value.length) : {};
    this.#copies.set(value, copy);
    // Keys, not indices: holes stay holes, named properties go along.
    for (const key of Object.keys(value)) {
      const field = (value as Record<string, unknown>)[key];
      set(
        copy,
        key,
        typeof field === "object" && field !== null
          ? this.copy(field, [...path, key])
          : field,
      );
    }
    return copy;
  }

  #endpoint(value: object, path: (string | number)[]): unknown {
    let number = this.#numbers.get(value);
    if (number === undefined) {
      const endpoint = endpointOf(value);
      if (endpoint === undefined) return value;
      number = this.endpoints.push(endpoint) - 1;
      this.#numbers.set(value, number);
    }
    this.places.push([number, ...path]);
    return null;
  }
}

/** Sets an own property, also one that is called `__proto__`. */
function set(target: object, key: string, value: unknown): void {
  if (key !== "__proto__") (target as Record<string, unknown>)[key] = value;
  else {
    Object.defineProperty(target, key, {
      value,
      enumerable: true,
      configurable: true,
      writable: true,
    });
  }
}

function handOver(
  survey: Survey,
  value: unknown,
  transfer: Transferable[],
): [Packed, Transferable[]] {
  const list = [...transfer];
  const endpoints: Descriptor[] = [];
  for (const endpoint of survey.endpoints) {
    const { descriptor, ports } = endpoint.give();
    endpoints.push(descriptor);
    list.push(...ports);
  }
  const { places } = survey;
  return [
    { [KEY]: VERSION, value, endpoints, places, moved: [...transfer] },
    list,
  ];
}

/**
 * Makes a value with endpoints in it ready for `postMessage`.
 *
 * Connections in it move: here they are closed. Queues in it are shared: here
 * they stay open. Endpoints are found in plain objects and arrays, at any
 * depth, and as the value itself. There is no Python counterpart: there,
 * processes inherit endpoints. Post the message at once: Node refuses one with
 * an end whose other side has gone since.
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
  const survey = new Survey();
  const copy = survey.copy(value, []);
  for (const endpoint of survey.endpoints) endpoint.check(undefined);
  // Ports, for which each platform has a type of its own: `never` is any of them.
  return handOver(survey, copy, []) as [Packed, never[]];
}

/** Something to be posted by itself: a value with endpoints or transfers. */
export class Parcel {
  readonly message: unknown;
  readonly transfer: Transferable[];
  constructor(message: unknown, transfer: Transferable[]) {
    this.message = message;
    this.transfer = transfer;
  }
}

/** A snapshot of a value with endpoints or transfers, before anything moves. */
export class Draft {
  /** The value, without its endpoints. */
  readonly value: unknown;
  /** What was transferred into it. */
  readonly moved: Transferable[];
  readonly #survey: Survey;

  constructor(survey: Survey, value: unknown, moved: Transferable[]) {
    this.#survey = survey;
    this.value = value;
    this.moved = moved;
  }

  /** Whether it can be kept and cloned like any other value. */
  get plain(): boolean {
    return this.#survey.endpoints.length === 0 &&
      this.moved.every((part) => part instanceof ArrayBuffer);
  }

  /** Hands the endpoints over; throws `OSError` when one has been closed since. */
  commit(): Parcel {
    for (const endpoint of this.#survey.endpoints) endpoint.check(undefined);
    return new Parcel(...handOver(this.#survey, this.value, this.moved));
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
  const survey = new Survey();
  const copy = survey.copy(value, []);
  for (const endpoint of survey.endpoints) endpoint.check(through);
  const list = [...transfer ?? []];
  if (list.length > 0 && failedClonesMove()) rehearse(copy, list);
  // The clone proves that the rest can travel, and is the snapshot.
  const [cloned, moved] = structuredClone([copy, list], { transfer: list }) as [
    unknown,
    Transferable[],
  ];
  return new Draft(survey, cloned, moved);
}

/**
 * Throws `DataCloneError` when the clone would fail, by cloning all but what
 * is to be transferred, as far as that is in plain objects and arrays.
 */
function rehearse(value: unknown, transfer: Transferable[]): void {
  const moves = new Set<unknown>(transfer);
  if (moves.size < transfer.length) {
    throw new DOMException(
      "Cannot transfer: a part is given twice",
      "DataCloneError",
    );
  }
  const found = new Set<unknown>();
  const copies = new Map<object, unknown>();
  const rest = (value: unknown): unknown => {
    if (typeof value !== "object" || value === null) return value;
    const part = ArrayBuffer.isView(value) ? value.buffer : value;
    if (moves.has(part)) return void found.add(part);
    if (copies.has(value)) return copies.get(value);
    if (isProxy(value) || !isList(value) && !isPlain(value)) return value;
    const copy: Record<string, unknown> = {};
    copies.set(value, copy);
    for (const key of Object.keys(value)) {
      set(copy, key, rest((value as Record<string, unknown>)[key]));
    }
    return copy;
  };
  const plain = rest(value);
  if (found.size === moves.size) structuredClone(plain);
}

// --- Unpacking ---------------------------------------------------------------

// A message is unpacked once: its ports have an owner from then on.
const unpacked = new WeakSet<object>();

function isPacked(message: unknown): message is Packed {
  return typeof message === "object" && message !== null &&
    Object.hasOwn(message, KEY) &&
    (message as Packed)[KEY] === VERSION;
}

/** What a message that was not made by `pack` is refused with. */
export function malformed(): TypeError {
  return new TypeError("Cannot unpack: the message is malformed");
}

function knownKind(descriptor: unknown): Kind | undefined {
  return typeof descriptor === "object" && descriptor !== null
    ? kinds.get((descriptor as Descriptor).kind)
    : undefined;
}

function kindOf(descriptor: unknown): Kind {
  const kind = knownKind(descriptor);
  if (!kind) throw malformed();
  return kind;
}

/** Puts an endpoint where a place says; returns the value it belongs to. */
function place(
  root: unknown,
  path: (string | number)[],
  endpoint: object,
): unknown {
  if (path.length === 0) return endpoint;
  let target = root;
  for (const key of path.slice(0, -1)) target = step(target, key);
  const last = path[path.length - 1]!;
  step(target, last);
  set(target as object, String(last), endpoint);
  return root;
}

function step(target: unknown, key: string | number): unknown {
  if (
    typeof target !== "object" || target === null || !Object.hasOwn(target, key)
  ) {
    throw malformed();
  }
  return (target as Record<string, unknown>)[key];
}

/**
 * Makes live endpoints of what {@linkcode pack} made of them.
 *
 * @typeParam T What the message holds.
 * @param message What arrived, usually `event.data`. Once: an endpoint has one owner.
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
  const { endpoints, places } = message;
  if (
    !Array.isArray(endpoints) || !Array.isArray(places) ||
    !places.every(Array.isArray)
  ) throw malformed();
  const made: object[] = [];
  try {
    for (const descriptor of endpoints) {
      made.push(kindOf(descriptor).make(descriptor));
    }
    let { value } = message;
    for (const [number, ...path] of places) {
      const endpoint = made[number as number];
      if (!endpoint) throw malformed();
      value = place(value, path, endpoint);
    }
    return value as T;
  } catch (error) {
    for (const endpoint of made) (endpoint as { close?: () => void }).close?.();
    scrap(endpoints.slice(made.length));
    throw error instanceof OSError || error instanceof TypeError
      ? error
      : malformed();
  }
}

/** Closes the endpoints in a message that nobody will read. */
export function drop(message: unknown): void {
  if (!isPacked(message) || unpacked.has(message)) return;
  unpacked.add(message);
  if (!Array.isArray(message.endpoints)) return;
  for (const descriptor of message.endpoints) {
    try {
      (kindOf(descriptor).make(descriptor) as { close(): void }).close();
    } catch {
      // Malformed: nothing to close.
    }
  }
}

/** What has to be transferred when a packed message is passed on unread. */
export function transferOf(message: unknown): Transferable[] {
  if (!isPacked(message) || !Array.isArray(message.endpoints)) return [];
  const ports = message.endpoints.flatMap((descriptor) =>
    knownKind(descriptor)?.ports(descriptor) ?? []
  );
  return Array.isArray(message.moved) ? [...message.moved, ...ports] : ports;
}

/** Whether a message is one that can be unpacked, as far as can be seen from outside. */
export function isParcel(message: unknown): boolean {
  return isPacked(message) && Array.isArray(message.endpoints) &&
    message.endpoints.every(knownKind) && Array.isArray(message.places) &&
    message.places.every(Array.isArray) && Array.isArray(message.moved);
}
