/**
 * Messages that share a post, folded: objects of the same shape travel as the
 * shape, once, and their fields, one after the other in one flat array, which
 * the platform clones several times faster than the objects. Folding is also
 * the snapshot: all that is kept of an object is its primitive fields.
 *
 * What is not plain data is not folded. What is plain and does not fit (shared
 * references, cycles, long arrays, ever new shapes) is copied, and travels as
 * a value of its own.
 */

import { isProxy } from "./_endpoint.ts";
import { copiedSize, copyPlain, NOT_PLAIN } from "./_snapshot.ts";

/**
 * `null`: the next value, as it is. Otherwise an object's keys, or `null` for
 * an array, and the shapes of what is in it.
 */
export type Shape = null | [keys: string[] | null, parts: Shape[]];

/** `count, shape` for each run of messages of the same shape. */
export type Runs = (number | Shape)[];

const MOST_ITEMS = 256;
/** No more messages are folded, or unfolded, at once. */
const MOST_FOLDED = 4096;
const MOST_WEIGHT = 64 * 1024;
const MOST_RUNS = 8;
const MOST_PARTS = 32;

// What has been met in the message that is being folded. A list that is
// emptied rather than truncated keeps its memory.
const seen: (object | undefined)[] = [];
let met = 0;
let size = 0;

function forget(): void {
  while (met > 0) seen[--met] = undefined;
}

/** Folds messages. */
export class Folder {
  readonly #folds: boolean;
  #values: unknown[] = [];
  #runs: Runs = [];
  #shape: Shape = null;
  /** The shape that was folded last, also by an earlier batch. */
  #known: Shape = null;
  /** Messages in here. */
  count = 0;
  /** Their size, in characters and values. */
  weight = 0;

  /** @param folds If not, all are kept as they are, or copied. */
  constructor(folds: boolean) {
    this.#folds = folds;
  }

  /** Whether it is time to post. */
  get full(): boolean {
    return this.count >= MOST_ITEMS || this.weight >= MOST_WEIGHT;
  }

  /** Adds a message as it is now; returns false if it is not plain data. */
  add(value: unknown): boolean {
    // Called by a getter of a message that is half folded: not in between.
    if (met > 0) return false;
    if (typeof value !== "object" || value === null) {
      size = 0;
      return isLeaf(value) && this.#push(null, value);
    }
    return (this.#folds && this.#fold(value)) || this.#copy(value);
  }

  #fold(value: object): boolean {
    const values = this.#values;
    const { length } = values;
    size = 0;
    try {
      const known = this.#known;
      if (known !== null) {
        // Unless a getter sent something meanwhile, which posted what was here.
        if (fits(value, known, values) && values === this.#values) {
          return this.#enter(known);
        }
        values.length = length;
      }
      if (this.#runs.length >= 2 * MOST_RUNS) return false;
      forget();
      size = 0;
      const shape = survey(value, values);
      if (shape !== undefined && values === this.#values) {
        this.#known = shape;
        return this.#enter(shape);
      }
      values.length = length;
      return false;
    } catch (error) {
      values.length = length;
      throw error;
    } finally {
      forget();
    }
  }

  #copy(value: object): boolean {
    const copy = copyPlain(value);
    size = copiedSize();
    return copy !== NOT_PLAIN && this.#push(null, copy);
  }

  #push(shape: null, value: unknown): true {
    this.#values.push(value);
    return this.#enter(shape);
  }

  #enter(shape: Shape): true {
    this.count++;
    this.weight += size;
    const runs = this.#runs;
    if (runs.length > 0 && shape === this.#shape) {
      (runs[runs.length - 2] as number)++;
    } else {
      runs.push(1, shape);
      this.#shape = shape;
    }
    return true;
  }

  /** Empties the folder; no runs: the values are the messages. */
  take(): [values: unknown[], runs: Runs | undefined] {
    const values = this.#values;
    const runs = this.#runs;
    this.#values = [];
    this.#runs = [];
    this.count = this.weight = 0;
    return [values, runs.length === 2 && runs[1] === null ? undefined : runs];
  }
}

function isLeaf(value: unknown): boolean {
  switch (typeof value) {
    case "string":
      size += value.length;
      return true;
    case "function":
    case "symbol":
      return false;
    default:
      size += 8;
      return true;
  }
}

/** Appends the fields of an object if it has this shape. */
function fits(value: object, shape: Shape, values: unknown[]): boolean {
  const [keys, parts] = shape!;
  if (!isNew(value)) return false;
  if (keys === null) {
    if (!isArray(value, parts.length)) return false;
    for (let i = 0; i < parts.length; i++) {
      if (!fitsPart(value[i], parts[i]!, values)) return false;
    }
    return true;
  }
  if (!isObject(value)) return false;
  let i = 0;
  for (const key in value) {
    if (key !== keys[i]) return false;
    if (!fitsPart(value[key], parts[i++]!, values)) return false;
  }
  return i === keys.length;
}

function fitsPart(field: unknown, shape: Shape, values: unknown[]): boolean {
  if (typeof field === "object" && field !== null) {
    return shape !== null && fits(field, shape, values);
  }
  if (shape !== null || !isLeaf(field)) return false;
  values.push(field);
  return true;
}

/** Appends the fields of an object and returns its shape; `undefined`: it cannot be folded. */
function survey(value: object, values: unknown[]): Shape | undefined {
  if (!isNew(value)) return undefined;
  const array = isArray(value, (value as unknown[]).length);
  if (!array && !isObject(value)) return undefined;
  const keys = Object.keys(value);
  if (keys.length > MOST_PARTS || keys.includes("__proto__")) return undefined;
  const parts: Shape[] = [];
  for (const key of keys) {
    const field = (value as Record<string, unknown>)[key];
    if (typeof field === "object" && field !== null) {
      const part = survey(field, values);
      if (part === undefined) return undefined;
      parts.push(part);
    } else {
      if (!isLeaf(field)) return undefined;
      values.push(field);
      parts.push(null);
    }
  }
  return [array ? null : keys, parts];
}

/** Whether an object has not been met before in this message, and can be looked into. */
function isNew(value: object): boolean {
  if (met === MOST_PARTS || isProxy(value)) return false;
  for (let i = 0; i < met; i++) if (seen[i] === value) return false;
  seen[met++] = value;
  size += 16;
  return true;
}

function isObject(value: object): value is Record<string, unknown> {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** Whether it is an array of this length with neither holes nor named properties. */
function isArray(value: object, length: number): value is unknown[] {
  if (
    !Array.isArray(value) || value.length !== length ||
    Object.getPrototypeOf(value) !== Array.prototype
  ) return false;
  const keys = Object.keys(value);
  return keys.length === length &&
    (length === 0 || keys[length - 1] === String(length - 1));
}

/** Unfolds what a {@linkcode Folder} made, message by message. */
export class Unfolder {
  readonly #values: unknown[];
  readonly #runs: Runs;
  #at = 0;
  #run = 0;
  #done = 0;

  constructor(values: unknown[], runs: Runs) {
    this.#values = values;
    this.#runs = runs;
  }

  /** Whether there is one more message. */
  get more(): boolean {
    return this.#run < this.#runs.length;
  }

  /** The next message; only when there is one more. */
  next(): unknown {
    const shape = this.#runs[this.#run + 1] as Shape;
    if (++this.#done === this.#runs[this.#run]) {
      this.#run += 2;
      this.#done = 0;
    }
    return shape === null ? this.#values[this.#at++] : this.#build(shape);
  }

  /** The messages that are left. */
  rest(): unknown[] {
    const rest: unknown[] = [];
    while (this.more) rest.push(this.next());
    return rest;
  }

  #build([keys, parts]: NonNullable<Shape>): unknown {
    const built: unknown[] | Record<string, unknown> = keys === null ? [] : {};
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]!;
      (built as Record<string, unknown>)[keys === null ? i : keys[i]!] =
        part === null ? this.#values[this.#at++] : this.#build(part);
    }
    return built;
  }
}

/** Folds messages that are to travel together; `undefined`: not worth it, or not possible. */
export function fold(
  values: unknown[],
): [values: unknown[], runs: Runs] | undefined {
  if (values.length > MOST_FOLDED) return undefined;
  const folder = new Folder(true);
  for (const value of values) if (!folder.add(value)) return undefined;
  const [folded, runs] = folder.take();
  return runs && [folded, runs];
}

/** How many messages are folded. */
export function countIn(runs: Runs): number {
  let count = 0;
  for (let i = 0; i < runs.length; i += 2) count += runs[i] as number;
  return count;
}

/** The messages that two fields of a frame hold; `undefined`: malformed. */
export function unfolded(
  values: unknown,
  runs: unknown,
): unknown[] | undefined {
  if (runs === undefined) return Array.isArray(values) ? values : undefined;
  return isFolded(values, runs)
    ? new Unfolder(values as unknown[], runs as Runs).rest()
    : undefined;
}

/**
 * Whether two fields of a frame are what {@linkcode Folder.take} returns: no
 * more messages, and no larger shapes, than it makes.
 */
export function isFolded(values: unknown, runs: unknown): boolean {
  if (!Array.isArray(values) || !Array.isArray(runs)) return false;
  let left = values.length;
  let messages = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const count = runs[i];
    parts = 0;
    const each = leaves(runs[i + 1]);
    if (!Number.isInteger(count) || count < 1) return false;
    messages += count;
    left -= count * each;
  }
  return runs.length > 0 && left >= 0 && messages <= MOST_FOLDED;
}

// Objects in the shape that is being looked at: shared ones count each time.
let parts = 0;

/** How many values an object of a shape takes; `NaN`: it is no shape. */
function leaves(shape: unknown): number {
  if (shape === null) return 1;
  if (!Array.isArray(shape) || ++parts > MOST_PARTS) return NaN;
  const [keys, fields] = shape;
  if (!Array.isArray(fields)) return NaN;
  if (keys !== null && !areKeys(keys, fields.length)) return NaN;
  let sum = 0;
  for (const field of fields) sum += leaves(field);
  return sum;
}

function areKeys(keys: unknown, length: number): boolean {
  return Array.isArray(keys) && keys.length === length &&
    keys.every((key) => typeof key === "string" && key !== "__proto__");
}
