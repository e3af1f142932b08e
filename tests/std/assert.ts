// A small stand-in for jsr:@std/assert, for where JSR does not answer and for Bun and Node:
// the same names and meanings, for what the tests use.
// deno-lint-ignore-file no-explicit-any

type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** What every assertion throws. */
export class AssertionError extends Error {
  override name = "AssertionError";
}

function suffix(message: string | undefined): string {
  return message ? `: ${message}` : ".";
}

/** A short text for a value, for messages only. */
export function show(value: unknown): string {
  const seen = new Set<unknown>();
  function render(x: unknown): string {
    if (typeof x === "string") return JSON.stringify(x);
    if (typeof x === "bigint") return `${x}n`;
    if (Object.is(x, -0)) return "-0";
    if (typeof x === "function") return `[function ${x.name}]`;
    if (typeof x !== "object" || x === null) return String(x);
    if (seen.has(x)) return "[seen]";
    seen.add(x);
    if (x instanceof Date || x instanceof RegExp) return String(x);
    if (x instanceof Error) return `${x.name}(${JSON.stringify(x.message)})`;
    if (x instanceof Map) {
      const entries = [...x].map(([k, v]) => `${render(k)} => ${render(v)}`);
      return `Map{${entries.join(", ")}}`;
    }
    if (x instanceof Set) return `Set{${[...x].map(render).join(", ")}}`;
    if (Array.isArray(x)) return `[${x.map(render).join(", ")}]`;
    const tag = x.constructor?.name ?? "null";
    if (ArrayBuffer.isView(x) && !(x instanceof DataView)) {
      const list = Array.from(x as unknown as ArrayLike<unknown>);
      const more = list.length > 40 ? `, … ${list.length} in all` : "";
      return `${tag}[${list.slice(0, 40).join(", ")}${more}]`;
    }
    const fields = Reflect.ownKeys(x).map((key) =>
      `${String(key)}: ${render((x as Record<PropertyKey, unknown>)[key])}`
    );
    return `${tag === "Object" ? "" : tag}{${fields.join(", ")}}`;
  }
  const text = render(value);
  return text.length > 600 ? `${text.slice(0, 600)}…` : text;
}

/** In edge-runtime, clones belong to another realm. */
const own = new Map<unknown, unknown>(
  [{}, [], new Map(), new Set(), new Date(), new Uint8Array()].map((x) => [
    structuredClone(x).constructor,
    x.constructor,
  ]),
);

function constructorOf(x: object): unknown {
  return own.get(x.constructor) ?? x.constructor ?? Object;
}

function sameConstructor(a: object, b: object): boolean {
  return constructorOf(a) === constructorOf(b);
}

function bytes(x: ArrayBuffer | SharedArrayBuffer | DataView): Uint8Array {
  return x instanceof DataView
    ? new Uint8Array(x.buffer, x.byteOffset, x.byteLength)
    : new Uint8Array(x);
}

function isBytes(x: unknown): x is ArrayBuffer | SharedArrayBuffer | DataView {
  return x instanceof ArrayBuffer || x instanceof DataView ||
    typeof SharedArrayBuffer !== "undefined" && x instanceof SharedArrayBuffer;
}

/** Deep equality: `NaN` equals itself, `-0` equals `0`, cycles are followed once. */
export function equal(left: unknown, right: unknown): boolean {
  const assumed = new Map<object, object>();

  function same(a: unknown, b: unknown): boolean {
    if (typeof a === "number" && typeof b === "number") {
      return a === b || Number.isNaN(a) && Number.isNaN(b);
    }
    if (Object.is(a, b)) return true;
    if (typeof a !== "object" || typeof b !== "object") return false;
    if (a === null || b === null || !sameConstructor(a, b)) return false;
    if (a instanceof Date && b instanceof Date) return same(+a, +b);
    if (a instanceof RegExp || a instanceof URL) return String(a) === String(b);
    if (assumed.get(a) === b) return true;
    assumed.set(a, b);
    if (a instanceof Error && b instanceof Error) {
      if (a.name !== b.name || a.message !== b.message) return false;
      if (!same(a.cause, b.cause)) return false;
    }
    if (isBytes(a) && isBytes(b)) return sameList(bytes(a), bytes(b));
    if (ArrayBuffer.isView(a) && ArrayBuffer.isView(b)) {
      return sameList(
        a as unknown as ArrayLike<unknown>,
        b as unknown as ArrayLike<unknown>,
      );
    }
    if (a instanceof Map && b instanceof Map) return sameMap(a, b);
    if (a instanceof Set && b instanceof Set) return sameSet(a, b);
    return sameFields(a, b);
  }

  function sameList(a: ArrayLike<unknown>, b: ArrayLike<unknown>): boolean {
    if (a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) {
      if (!same(a[i], b[i])) return false;
    }
    return true;
  }

  function sameMap(
    a: Map<unknown, unknown>,
    b: Map<unknown, unknown>,
  ): boolean {
    if (a.size !== b.size) return false;
    const rest = new Map(b);
    return [...a].every(([key, value]) => {
      const at = rest.has(key)
        ? key
        : [...rest.keys()].find((other) =>
          typeof other === "object" && same(key, other) &&
          same(value, rest.get(other))
        );
      return rest.has(at) && same(value, rest.get(at)) && rest.delete(at);
    });
  }

  function sameSet(a: Set<unknown>, b: Set<unknown>): boolean {
    if (a.size !== b.size) return false;
    const rest = new Set(b);
    return [...a].every((value) => {
      if (rest.delete(value)) return true;
      for (const other of rest) {
        if (typeof other === "object" && same(value, other)) {
          return rest.delete(other);
        }
      }
      return false;
    });
  }

  function sameFields(a: object, b: object): boolean {
    if (
      Array.isArray(a) && Array.isArray(b) && a.length !== b.length
    ) return false;
    const keysOf = (x: object) =>
      Reflect.ownKeys(x).filter((k) =>
        Object.prototype.propertyIsEnumerable.call(x, k)
      );
    const keys = keysOf(a);
    if (keys.length !== keysOf(b).length) return false;
    return keys.every((key) =>
      Object.hasOwn(b, key) &&
      same(
        (a as Record<PropertyKey, unknown>)[key],
        (b as Record<PropertyKey, unknown>)[key],
      )
    );
  }

  return same(left, right);
}

/** Fails unless `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError(msg);
}

/** Fails. */
export function fail(msg?: string): never {
  throw new AssertionError(`Failed assertion${suffix(msg)}`);
}

/** Fails unless both are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  if (equal(actual, expected)) return;
  throw new AssertionError(
    `Values are not equal${suffix(msg)}\n  actual:   ${
      show(actual)
    }\n  expected: ${show(expected)}`,
  );
}

/** Fails when both are deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  if (!equal(actual, expected)) return;
  throw new AssertionError(
    `Expected actual: ${show(actual)} not to be: ${show(expected)}${
      suffix(msg)
    }`,
  );
}

/** Fails unless `Object.is` holds. */
export function assertStrictEquals<T>(
  actual: unknown,
  expected: T,
  msg?: string,
): asserts actual is T {
  if (Object.is(actual, expected)) return;
  throw new AssertionError(
    `Values are not strictly equal${suffix(msg)}\n  actual:   ${
      show(actual)
    }\n  expected: ${show(expected)}`,
  );
}

/** Fails when `Object.is` holds. */
export function assertNotStrictEquals<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  if (!Object.is(actual, expected)) return;
  throw new AssertionError(
    `Expected "actual" to not be strictly equal to: ${show(actual)}${
      suffix(msg)
    }`,
  );
}

/** Fails for `null` and `undefined`. */
export function assertExists<T>(
  actual: T,
  msg?: string,
): asserts actual is NonNullable<T> {
  if (actual !== undefined && actual !== null) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to not be null or undefined${suffix(msg)}`,
  );
}

/** Fails unless `expr` is falsy. */
export function assertFalse(expr: unknown, msg = ""): asserts expr is false {
  if (expr) throw new AssertionError(msg);
}

/** Fails unless `actual` is an instance of `expectedType`. */
export function assertInstanceOf<
  T extends abstract new (...args: any[]) => any,
>(
  actual: unknown,
  expectedType: T,
  msg?: string,
): asserts actual is InstanceType<T> {
  if (actual instanceof expectedType) return;
  throw new AssertionError(
    `Expected object to be an instance of "${expectedType.name}" but was ${
      show(actual)
    }${suffix(msg)}`,
  );
}

/** Fails unless `actual` contains `expected`. */
export function assertStringIncludes(
  actual: string,
  expected: string,
  msg?: string,
): void {
  if (actual.includes(expected)) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to contain: "${expected}"${suffix(msg)}`,
  );
}

/** Fails unless `expected` matches. */
export function assertMatch(
  actual: string,
  expected: RegExp,
  msg?: string,
): void {
  if (expected.test(actual)) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to match: "${expected}"${suffix(msg)}`,
  );
}

/** Fails unless every one of `expected` is deeply equal to some of `actual`. */
export function assertArrayIncludes<T>(
  actual: ArrayLike<T>,
  expected: ArrayLike<T>,
  msg?: string,
): void {
  const all = Array.from(actual);
  const missing = Array.from(expected).filter((x) =>
    !all.some((y) => equal(x, y))
  );
  if (missing.length === 0) return;
  throw new AssertionError(
    `Expected actual: ${show(actual)} to include: ${show(expected)}${
      suffix(msg)
    } missing: ${show(missing)}`,
  );
}

function compare(
  holds: boolean,
  actual: unknown,
  word: string,
  expected: unknown,
  msg: string | undefined,
): void {
  if (holds) return;
  throw new AssertionError(
    msg ?? `Expect ${show(actual)} ${word} ${show(expected)}`,
  );
}

/** Fails unless `actual > expected`. */
export function assertGreater<T>(actual: T, expected: T, msg?: string): void {
  compare(actual > expected, actual, ">", expected, msg);
}

/** Fails unless `actual >= expected`. */
export function assertGreaterOrEqual<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  compare(actual >= expected, actual, ">=", expected, msg);
}

/** Fails unless `actual < expected`. */
export function assertLess<T>(actual: T, expected: T, msg?: string): void {
  compare(actual < expected, actual, "<", expected, msg);
}

/** Fails unless `actual <= expected`. */
export function assertLessOrEqual<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  compare(actual <= expected, actual, "<=", expected, msg);
}

/** Fails unless both differ by no more than `tolerance`. */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance?: number,
  msg?: string,
): void {
  if (Object.is(actual, expected)) return;
  const allowed = tolerance ??
    (Number.isFinite(expected) ? Math.abs(expected * 1e-7) : 1e-7);
  if (Math.abs(expected - actual) <= allowed) return;
  throw new AssertionError(
    `Expected actual: ${actual} to be close to ${expected}${suffix(msg)}`,
  );
}

/** Fails unless `error` is such an error. */
export function assertIsError<E extends Error = Error>(
  error: unknown,
  ErrorClass?: ErrorClass<E>,
  msgMatches?: string | RegExp,
  msg?: string,
): asserts error is E {
  if (!(error instanceof Error)) {
    throw new AssertionError(
      `Expected "error" to be an Error object${suffix(msg)}`,
    );
  }
  if (ErrorClass && !(error instanceof ErrorClass)) {
    throw new AssertionError(
      `Expected error to be instance of "${ErrorClass.name}", but was "${error.constructor.name}" (${error.message})${
        suffix(msg)
      }`,
    );
  }
  const matches = msgMatches === undefined ||
    (typeof msgMatches === "string"
      ? error.message.includes(msgMatches)
      : msgMatches.test(error.message));
  if (matches) return;
  throw new AssertionError(
    `Expected error message to include ${show(msgMatches)}, but got ${
      show(error.message)
    }${suffix(msg)}`,
  );
}

function checkThrown(
  error: unknown,
  verb: string,
  classOrMsg: unknown,
  includes: string | undefined,
  msg: string | undefined,
): void {
  if (typeof classOrMsg !== "function") return;
  if (!(error instanceof Error)) {
    throw new AssertionError(
      `A non-Error object was ${verb}${suffix(msg)} (${show(error)})`,
    );
  }
  assertIsError(error, classOrMsg as ErrorClass<Error>, includes, msg);
}

/** Fails unless `fn` throws; returns what it threw. */
export function assertThrows(fn: () => unknown, msg?: string): unknown;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows(
  fn: () => unknown,
  classOrMsg?: unknown,
  includes?: string,
  msg?: string,
): unknown {
  let error: unknown;
  try {
    fn();
  } catch (thrown) {
    error = thrown;
    checkThrown(error, "thrown", classOrMsg, includes, msg);
    return error;
  }
  const note = typeof classOrMsg === "string" ? classOrMsg : msg;
  throw new AssertionError(`Expected function to throw${suffix(note)}`);
}

/** Fails unless `fn` returns a promise that rejects; resolves to the error. A synchronous throw fails. */
export function assertRejects(
  fn: () => PromiseLike<unknown>,
  msg?: string,
): Promise<unknown>;
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects(
  fn: () => PromiseLike<unknown>,
  classOrMsg?: unknown,
  includes?: string,
  msg?: string,
): Promise<unknown> {
  const note = typeof classOrMsg === "string" ? classOrMsg : msg;
  const wrong = () =>
    new AssertionError(
      `Function throws when expected to reject${suffix(note)}`,
    );
  let promise: PromiseLike<unknown>;
  try {
    promise = fn();
  } catch {
    throw wrong();
  }
  if (typeof promise?.then !== "function") throw wrong();
  try {
    await promise;
  } catch (error) {
    checkThrown(error, "rejected", classOrMsg, includes, msg);
    return error;
  }
  throw new AssertionError(`Expected function to reject${suffix(note)}`);
}
