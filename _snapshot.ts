/**
 * Copies of plain data, made faster than `structuredClone` makes them, for
 * messages that share a post with others: they have to be what they were when
 * the call was made. What is not plain is given up on; the caller then posts
 * it by itself at once, and the platform makes the copy.
 *
 * Most of what is plain survives JSON unchanged. Platforms post one string
 * several times faster than the objects in it: frames of such data travel as
 * text.
 */

import { isProxy } from "./_runtime.ts";
import { isBuffer, isCount } from "./_wire.ts";

/** What {@linkcode Snapshot.copy} returns for anything that is not plain data. */
export const NOT_PLAIN: unique symbol = Symbol("not plain data");

const { toString } = Object.prototype;

const MOST_OBJECTS = 32;
const MOST_ELEMENTS = 1024;

// The objects of the copy that is under way, one at a time in a thread: getters
// could start another, so `busy` guards against it. Lists that are emptied
// rather than truncated keep their memory.
const originals: (object | undefined)[] = [];
const copies: (object | undefined)[] = [];
let count = 0;
let busy = false;
let isFinal = false;
let size = 0;
/** What would not come back from JSON the same, or not faster. */
let odd = 0;

/** More fractions than this in a message: the platform's clone is as fast. */
const MOST_FRACTIONS = 16;
const ODD = MOST_FRACTIONS + 1;
/** No longer text is worth it. */
const MOST_TEXT = 16 * 1024;

/** The size of the last copy, in characters and values: a rough weight. */
export function copiedSize(): number {
  return size;
}

/** Whether JSON gives the last copy back as it is, and is worth it. */
export function copiedIsText(): boolean {
  return odd <= MOST_FRACTIONS && size <= MOST_TEXT;
}

/**
 * A copy of plain data with identity and cycles kept, or {@linkcode NOT_PLAIN}.
 *
 * @param final It is not posted, which would leave out what has a symbol as its key.
 */
export function copyPlain(value: unknown, final = false): unknown {
  if (busy) return NOT_PLAIN;
  size = odd = 0;
  isFinal = final;
  if (typeof value !== "object" || value === null) return copyLeaf(value);
  if (polluted()) return NOT_PLAIN;
  busy = true;
  try {
    return copyObject(value);
  } finally {
    busy = false;
    while (count > 0) originals[--count] = copies[count] = undefined;
  }
}

function copyLeaf(value: unknown): unknown {
  switch (typeof value) {
    case "string":
      size += value.length;
      return value;
    case "function":
    case "symbol":
      return NOT_PLAIN;
    case "number":
      size += 8;
      if (!Number.isInteger(value)) odd += Number.isFinite(value) ? 1 : ODD;
      else if (value === 0 && 1 / value < 0) odd = ODD;
      return value;
    case "bigint":
      size += weightOfInteger(value);
      odd = ODD;
      return value;
    default:
      size += 8;
      if (value !== null && typeof value !== "boolean") odd = ODD;
      return value;
  }
}

/** Whether objects have keys, for `for in`, that are not their own. */
function polluted(): boolean {
  for (const _ in Object.prototype) return true;
  return false;
}

/** A copy of an object that may have been met before. */
function copyNested(value: object): unknown {
  for (let i = 0; i < count; i++) {
    if (originals[i] !== value) continue;
    odd = ODD; // JSON knows no identity
    return copies[i];
  }
  return copyObject(value);
}

function enter(value: object, copy: object): void {
  originals[count] = value;
  copies[count++] = copy;
  size += 16;
}

/** Whether a value is a list, of whatever realm, and none of a class of its own. */
export function isList(value: unknown): value is unknown[] {
  return Array.isArray(value) && Array.isArray(Object.getPrototypeOf(value));
}

/** Whether an object is a plain one, of whatever realm; `arguments`, and an error or a module with the prototype of one, are not. */
export function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return (prototype === Object.prototype || prototype === null ||
    Object.getPrototypeOf(prototype) === null) &&
    toString.call(value) === "[object Object]";
}

function copyObject(value: object): unknown {
  if (count === MOST_OBJECTS || isProxy(value)) return NOT_PLAIN;
  if (Array.isArray(value)) return copyArray(value);
  if (!isPlain(value)) return NOT_PLAIN;
  if (isFinal && Object.getOwnPropertySymbols(value).length > 0) {
    return NOT_PLAIN;
  }
  // First a shallow copy, which engines make at once, and reads each getter once.
  const copy: Record<string, unknown> = { ...value };
  enter(value, copy);
  for (const key in copy) {
    const field = copy[key];
    size += key.length;
    if (typeof field === "object" && field !== null) {
      if ((copy[key] = copyNested(field)) === NOT_PLAIN) return NOT_PLAIN;
    } else if (copyLeaf(field) === NOT_PLAIN) return NOT_PLAIN;
    if (key === "__proto__") return NOT_PLAIN;
  }
  return copy;
}

function copyArray(value: unknown[]): unknown {
  const { length } = value;
  // One of another realm is for the platform, too: `slice` would make one of that realm.
  if (
    length > MOST_ELEMENTS ||
    Object.getPrototypeOf(value) !== Array.prototype
  ) return NOT_PLAIN;
  // Holes and named properties are for the platform.
  if (Object.keys(value).length !== length) return NOT_PLAIN;
  const copy = value.slice();
  enter(value, copy);
  for (let i = 0; i < length; i++) {
    const element = copy[i];
    if (typeof element === "object" && element !== null) {
      if ((copy[i] = copyNested(element)) === NOT_PLAIN) return NOT_PLAIN;
    } else if (copyLeaf(element) === NOT_PLAIN) return NOT_PLAIN;
    else if (element === undefined && !(i in copy)) return NOT_PLAIN;
  }
  return copy;
}

/** The most values that are looked at to weigh one. */
const MOST_WEIGHED = 256;
/** Of a list, a map or a set only so many: the others weigh as much. */
const SAMPLE = 16;
const MOST_WEIGHT = 2 ** 32;
let unweighed = 0;

/** A rough size in bytes of a value that is posted by itself; 0 when it cannot be looked at. */
export function weigh(value: unknown): number {
  unweighed = MOST_WEIGHED;
  try {
    const weight = Math.ceil(weightOf(value));
    // A class of one's own may have its size say anything.
    return isCount(weight) ? Math.min(weight, MOST_WEIGHT) : 0;
  } catch {
    return 0; // A getter that throws, a revoked proxy: posting says so.
  }
}

function weightOf(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value === "bigint") return weightOfInteger(value);
  if (isBuffer(value) || ArrayBuffer.isView(value)) {
    return value.byteLength >>> 0; // a subclass may have it say anything
  }
  if (typeof value !== "object" || value === null || unweighed-- <= 0) return 8;
  if (Array.isArray(value)) return weightOfMany(value, value.length);
  // Of whatever realm.
  switch (toString.call(value)) {
    case "[object ImageData]": // its fields are not its own
      return weightOf((value as ImageData).data);
    case "[object Map]":
    case "[object Set]": {
      const parts = value as Set<unknown>;
      return weightOfMany(first(parts), parts.size);
    }
    case "[object String]":
      return (value as ArrayLike<string>).length;
    case "[object RegExp]":
      return (value as RegExp).source.length;
    case "[object Error]":
      return weightOfFields(value) + weightOf((value as Error).message);
    default:
      return weightOfFields(value);
  }
}

function weightOfInteger(value: bigint): number {
  // To base 16 its digits are made in linear time.
  return 8 + (value.toString(16).length >> 1);
}

function weightOfFields(value: object): number {
  let weight = 16;
  // Not `Object.keys()`: this makes no list.
  for (const key in value) {
    if (Object.hasOwn(value, key)) {
      weight += key.length + weightOf((value as Record<string, unknown>)[key]);
    }
  }
  return weight;
}

function first(parts: Iterable<unknown>): unknown[] {
  const some: unknown[] = [];
  for (const part of parts) if (some.push(part) === SAMPLE) break;
  return some;
}

/** @param parts The first of `count`; a hole weighs nothing. */
function weightOfMany(parts: unknown[], count: number): number {
  const most = Math.min(parts.length, SAMPLE);
  let weight = 0;
  let seen = 0;
  for (; seen < most && unweighed >= 0; seen++) {
    if (seen in parts) weight += weightOf(parts[seen]);
  }
  return 16 + (seen > 0 ? weight / seen * count : 0);
}

/** A value that JSON would not give back as it is. */
export class Odd {
  readonly value: unknown;
  constructor(value: unknown) {
    this.value = value;
  }
}

/** A copy of an item for the store; {@linkcode Odd}, unless it can travel as text; throws what `structuredClone` throws. */
export function stored(value: unknown): unknown {
  const copy = copyPlain(value, true);
  if (copy === NOT_PLAIN) return new Odd(structuredClone(value));
  return copiedIsText() ? copy : new Odd(copy);
}

/** What a stored item is. */
export function plain(item: unknown): unknown {
  return item instanceof Odd ? item.value : item;
}
