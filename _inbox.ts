/**
 * Messages that have arrived and have not been taken yet, in order: the data
 * frames as they came, and a cursor into the first of them.
 */

import { Deque } from "./_deque.ts";
import {
  BYTES,
  type Frame,
  isCount,
  OBJECT,
  OBJECTS,
  PACKED,
  PARCEL,
} from "./_wire.ts";

/** Bytes of one message: a part of a chunk, or (`whole`) a chunk of its own. */
export interface ByteMessage {
  bytes: Uint8Array<ArrayBuffer>;
  whole: boolean;
}

/** See the module's comment. */
export class Inbox {
  #frames: Deque<Frame> = new Deque();
  #head: Frame | undefined;
  /** Items (OBJECTS) or bytes (PACKED) of the head that have been taken. */
  #at = 0;
  /** Messages and weight taken and not yet reported to the sender. */
  messages = 0;
  weight = 0;

  /** Adds a data frame; returns whether it was one, and well-formed. */
  push(frame: Frame): boolean {
    if (!wellFormed(frame)) return false;
    if (this.#head === undefined) this.#head = frame;
    else this.#frames.push(frame);
    return true;
  }

  /** The kind of the next message; `undefined`: there is none. */
  get next(): "object" | "bytes" | undefined {
    const head = this.#head;
    if (head === undefined) return undefined;
    return head[0] === BYTES || head[0] === PACKED ? "bytes" : "object";
  }

  /** Whether the next message is a parcel: what it holds must be unpacked. */
  get nextIsParcel(): boolean {
    return this.#head?.[0] === PARCEL;
  }

  /** Takes the next object; only when `next` is `"object"`. */
  takeObject(): unknown {
    const head = this.#head!;
    this.messages++;
    if (head[0] !== OBJECTS) {
      this.#advance(head[2]);
      return head[1];
    }
    const items = head[1] as unknown[];
    const item = items[this.#at++];
    if (this.#at === items.length) this.#advance(head[2]);
    return item;
  }

  /** Takes the next bytes message; only when `next` is `"bytes"`. */
  takeBytes(): ByteMessage {
    const head = this.#head!;
    const bytes = bytesOf(head[1]);
    this.messages++;
    if (head[0] === BYTES) {
      this.#advance(bytes.length);
      return { bytes, whole: true };
    }
    const length = lengthAt(bytes, this.#at);
    const start = this.#at + 4;
    this.#at = start + ((length + 3) & ~3);
    this.weight += length;
    if (this.#at >= bytes.length) this.#advance(0);
    return { bytes: bytes.subarray(start, start + length), whole: false };
  }

  #advance(weight: unknown): void {
    this.#at = 0;
    if (typeof weight === "number") this.weight += weight;
    this.#head = this.#frames.size > 0 ? this.#frames.shift() : undefined;
  }

  /** All that is left, as frames; empties the inbox. */
  drain(): Frame[] {
    const frames: Frame[] = [];
    const head = this.#head;
    if (head) {
      if (this.#at === 0) frames.push(head);
      else if (head[0] === OBJECTS) {
        frames.push([OBJECTS, (head[1] as unknown[]).slice(this.#at), head[2]]);
      } else {
        const rest = bytesOf(head[1]).slice(this.#at);
        frames.push([PACKED, rest.buffer, head[2] as number]);
      }
    }
    while (this.#frames.size > 0) frames.push(this.#frames.shift());
    this.#head = undefined;
    this.#at = 0;
    return frames;
  }
}

function bytesOf(field: unknown): Uint8Array<ArrayBuffer> {
  return field instanceof ArrayBuffer
    ? new Uint8Array(field)
    : field as Uint8Array<ArrayBuffer>;
}

function lengthAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 |
    bytes[at + 3]! << 24) >>> 0;
}

function isBytes(field: unknown): boolean {
  return field instanceof ArrayBuffer ||
    (field instanceof Uint8Array && field.buffer instanceof ArrayBuffer);
}

function wellFormed(frame: Frame): boolean {
  switch (frame[0]) {
    case OBJECT:
      return frame.length > 1 && isWeight(frame[2]);
    case OBJECTS:
      return Array.isArray(frame[1]) && frame[1].length > 0 &&
        isWeight(frame[2]);
    case PARCEL:
      return isWeight(frame[2]);
    case BYTES:
      return isBytes(frame[1]);
    case PACKED:
      return isBytes(frame[1]) && adds(bytesOf(frame[1]));
    default:
      return false;
  }
}

function isWeight(field: unknown): boolean {
  return field === undefined || isCount(field);
}

/** Whether the lengths in a PACKED frame add up to its size exactly. */
function adds(bytes: Uint8Array): boolean {
  let at = 0;
  while (at + 4 <= bytes.length) {
    const length = lengthAt(bytes, at);
    if (length > bytes.length - at - 4) return false;
    at += 4 + ((length + 3) & ~3);
  }
  return at > 0 && at === bytes.length;
}
