/**
 * Copies of plain data, made faster than `structuredClone` makes them, for
 * messages that share a post with others: they have to be what they were when
 * the call was made. What is not plain is given up on; the caller then posts
 * it by itself at once, and the platform makes the copy.
 */

import { isProxy } from "./_endpoint.ts";

/** What {@linkcode Snapshot.copy} returns for anything that is not plain data. */
export const NOT_PLAIN: unique symbol = Symbol("not plain data");

const MOST_OBJECTS = 32;
const MOST_ELEMENTS = 1024;

// One copy at a time is under way in a thread: getters could start another,
// so `depth` guards against it.
const originals: object[] = [];
const copies: object[] = [];
let busy = false;
let size = 0;

/** The size of the last copy, in characters and values: a rough weight. */
export function copiedSize(): number {
  return size;
}

/** A copy of plain data with identity and cycles kept, or {@linkcode NOT_PLAIN}. */
export function copyPlain(value: unknown): unknown {
  size = 0;
  if (typeof value !== "object" || value === null) return copyLeaf(value);
  if (busy) return NOT_PLAIN;
  busy = true;
  try {
    return copyObject(value);
  } finally {
    busy = false;
    originals.length = copies.length = 0;
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
    default:
      size += 8;
      return value;
  }
}

function copyObject(value: object): unknown {
  const seen = originals.indexOf(value);
  if (seen >= 0) return copies[seen];
  if (originals.length === MOST_OBJECTS) return NOT_PLAIN;
  if (isProxy(value)) return NOT_PLAIN;
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Array.prototype) return copyArray(value as unknown[]);
  if (prototype !== Object.prototype && prototype !== null) return NOT_PLAIN;
  const copy: Record<string, unknown> = {};
  originals.push(value);
  copies.push(copy);
  const keys = Object.keys(value);
  size += 16;
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!;
    if (key === "__proto__") return NOT_PLAIN;
    const field = (value as Record<string, unknown>)[key];
    const copied = typeof field === "object" && field !== null
      ? copyObject(field)
      : copyLeaf(field);
    if (copied === NOT_PLAIN) return NOT_PLAIN;
    copy[key] = copied;
  }
  return copy;
}

function copyArray(value: unknown[]): unknown {
  const { length } = value;
  if (!Array.isArray(value) || length > MOST_ELEMENTS) return NOT_PLAIN;
  // Holes and named properties are for the platform.
  const keys = Object.keys(value);
  if (
    keys.length !== length ||
    (length > 0 && keys[length - 1] !== String(length - 1))
  ) {
    return NOT_PLAIN;
  }
  const copy: unknown[] = [];
  originals.push(value);
  copies.push(copy);
  size += 16;
  for (let i = 0; i < length; i++) {
    const element = value[i];
    const copied = typeof element === "object" && element !== null
      ? copyObject(element)
      : copyLeaf(element);
    if (copied === NOT_PLAIN) return NOT_PLAIN;
    copy.push(copied);
  }
  return copy;
}

/** A rough size in bytes of a value that is posted by itself: one level deep. */
export function weigh(value: unknown): number {
  if (typeof value !== "object" || value === null) return leafWeight(value);
  let weight = 0;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length && i < 16; i++) {
      weight += leafWeight(value[i]);
    }
    return value.length > 16 ? Math.ceil(weight * value.length / 16) : weight;
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    return leafWeight(value);
  }
  for (const key in value) {
    weight += leafWeight((value as Record<string, unknown>)[key]);
  }
  return weight;
}

function leafWeight(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 0;
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
    return value.byteLength;
  }
  return 0;
}

/** A copy as `structuredClone` makes it; throws what it throws. */
export function snapshot(value: unknown): unknown {
  const copy = copyPlain(value);
  return copy === NOT_PLAIN ? structuredClone(value) : copy;
}
