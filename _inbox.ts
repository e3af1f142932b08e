/**
 * Messages that have arrived and have not been taken yet, in order: the data
 * frames as they came, and a cursor into the first of them.
 */

import { Deque } from "./_deque.ts";
import { isParcel, unpack } from "./_handoff.ts";
import {
  BYTES,
  type Frame,
  isBuffer,
  isCount,
  OBJECT,
  OBJECTS,
  PACKED,
  PARCEL,
} from "./_wire.ts";

/** Bytes of one message: a part of a chunk, or a chunk of its own. */
export class ByteMessage {
  readonly chunk: Uint8Array<ArrayBuffer>;
  readonly start: number;
  readonly length: number;

  constructor(chunk: Uint8Array<ArrayBuffer>, start: number, length: number) {
    this.chunk = chunk;
    this.start = start;
    this.length = length;
  }

  /** Whether the chunk holds nothing else. */
  get whole(): boolean {
    return this.length === this.chunk.length;
  }

  /** The bytes, in a buffer that nobody else holds. */
  own(): Uint8Array<ArrayBuffer> {
    const { chunk, start, length } = this;
    return this.whole ? chunk : chunk.slice(start, start + length);
  }

  /** Copies the bytes. */
  copyTo(target: Uint8Array, offset: number): void {
    const { chunk, start, length } = this;
    target.set(chunk.subarray(start, start + length), offset);
  }
}

/** A data frame. An object: engines know arrays apart by what is in them, and hot code by what it has met. */
class Data {
  readonly frame: Frame;
  readonly tag: number;
  readonly body: unknown;
  readonly weight: number | undefined;

  constructor(frame: Frame) {
    this.frame = frame;
    [this.tag, this.body] = frame;
    this.weight = frame[2] as number | undefined;
  }
}

/** See the module's comment. */
export class Inbox {
  #frames: Deque<Data> = new Deque();
  #head: Data | undefined;
  /** Items (OBJECTS) or bytes (PACKED) of the head that have been taken. */
  #at = 0;
  /** The head's bytes, once they have been looked at. */
  #chunk: Uint8Array<ArrayBuffer> | undefined;
  /** Messages and weight taken and not yet reported to the sender. */
  messages = 0;
  weight = 0;

  /** Adds a frame, if it is one with data, and well-formed. */
  push(frame: Frame): void {
    if (!wellFormed(frame)) return;
    const data = new Data(frame);
    if (this.#head === undefined) this.#become(data);
    else this.#frames.push(data);
  }

  /** The kind of the next message; `undefined`: there is none. */
  get next(): "object" | "bytes" | undefined {
    const head = this.#head;
    if (head === undefined) return undefined;
    return head.tag === BYTES || head.tag === PACKED ? "bytes" : "object";
  }

  /** Takes the next object; only when `next` is `"object"`. */
  takeObject(): unknown {
    const head = this.#head!;
    this.messages++;
    if (head.tag !== OBJECTS) {
      this.#advance(head.weight);
      return head.tag === PARCEL ? unpack(head.body) : head.body;
    }
    const items = head.body as unknown[];
    const item = items[this.#at++];
    if (this.#at === items.length) this.#advance(head.weight);
    return item;
  }

  /** Takes the next bytes message; only when `next` is `"bytes"`. */
  takeBytes(): ByteMessage {
    const head = this.#head!;
    const chunk = this.#chunk ??= bytesOf(head.body);
    this.messages++;
    if (head.tag === BYTES) {
      this.#advance(chunk.length);
      return new ByteMessage(chunk, 0, chunk.length);
    }
    const length = lengthAt(chunk, this.#at);
    const start = this.#at + 4;
    this.#at = start + ((length + 3) & ~3);
    this.weight += length;
    if (this.#at >= chunk.length) this.#advance(0);
    return new ByteMessage(chunk, start, length);
  }

  /** @param weight Of the frame, if it has a field for that. */
  #advance(weight: number | undefined): void {
    this.weight += weight ?? 0;
    this.#become(this.#frames.size > 0 ? this.#frames.shift() : undefined);
  }

  #become(head: Data | undefined): void {
    this.#head = head;
    this.#at = 0;
    this.#chunk = undefined;
  }

  /** All that is left, as frames; empties the inbox. */
  drain(): Frame[] {
    const frames: Frame[] = [];
    const head = this.#head;
    if (head) {
      const { tag, body, weight } = head;
      if (this.#at === 0) frames.push(head.frame);
      else if (tag === OBJECTS) {
        frames.push([OBJECTS, (body as unknown[]).slice(this.#at), weight]);
      } else {
        frames.push([PACKED, bytesOf(body).slice(this.#at).buffer]);
      }
    }
    while (this.#frames.size > 0) frames.push(this.#frames.shift().frame);
    this.#become(undefined);
    return frames;
  }
}

function bytesOf(field: unknown): Uint8Array<ArrayBuffer> {
  return isBuffer(field)
    ? new Uint8Array(field)
    : field as Uint8Array<ArrayBuffer>;
}

function lengthAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 |
    bytes[at + 3]! << 24) >>> 0;
}

function isBytes(field: unknown): boolean {
  return isBuffer(field) ||
    (field instanceof Uint8Array && isBuffer(field.buffer));
}

function wellFormed(frame: Frame): boolean {
  switch (frame[0]) {
    case OBJECT:
      return frame.length > 1 && isWeight(frame[2]);
    case OBJECTS:
      return Array.isArray(frame[1]) && frame[1].length > 0 &&
        isWeight(frame[2]);
    case PARCEL:
      return isWeight(frame[2]) && isParcel(frame[1]);
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
