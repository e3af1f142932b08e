/**
 * Frames as text: platforms post one string several times faster than the
 * objects in it, and a short one faster than a buffer.
 */

import { builtin } from "./_runtime.ts";
import { BYTES } from "./_wire.ts";

/** A frame that consists of what JSON gives back as it is, as text; not where someone has taught all lists, or all objects, to tell JSON something else, nor what is too long for a string. */
export function textOf(frame: unknown[]): string | unknown[] {
  if ("toJSON" in Array.prototype) return frame;
  try {
    return JSON.stringify(frame);
  } catch {
    return frame;
  }
}

type Latin1 = (this: Uint8Array, start: number, end: number) => string;
const latin1 = builtin<{ Buffer?: { prototype: { latin1Slice?: Latin1 } } }>(
  "node:buffer",
)?.Buffer?.prototype.latin1Slice;
const MOST_SPELLED = 128;
// The tag of the frame, byte by byte; behind it, when one is spelled, the bytes.
const TAG = [BYTES >> 24, BYTES >> 16 & 255, BYTES >> 8 & 255, BYTES & 255];
const SPELLED = String.fromCharCode(...TAG);
let spelling: Uint8Array | undefined;

/**
 * A BYTES frame as text, one character a byte: a port carries a short string
 * faster than a buffer. `undefined`: not here, or too long.
 */
export function spell(bytes: Uint8Array): string | undefined {
  const { length } = bytes;
  if (length > MOST_SPELLED || latin1 === undefined) return undefined;
  if (spelling === undefined) {
    spelling = new Uint8Array(4 + MOST_SPELLED);
    spelling.set(TAG);
  }
  spelling.set(bytes, 4);
  return latin1.call(spelling, 0, 4 + length);
}

/** What a text stands for; a foreign one for nothing. */
export function parsed(text: string): unknown {
  if (text.startsWith(SPELLED)) {
    const bytes = new Uint8Array(text.length - 4);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i + 4);
    return [BYTES, bytes];
  }
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
