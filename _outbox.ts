/**
 * What leaves a thread through one port, in order. The price of a port is per
 * post: a message that comes alone is posted at once; messages that follow it
 * in the same turn share posts, the last of which leaves when the turn's
 * synchronous part ends.
 *
 * Invariants: what was pushed first leaves first; after `flush` nothing waits.
 * What waits leaves in a microtask that was queued when the first message of
 * the turn was posted: so a promise that was resolved already, as `DONE` is,
 * goes on only after all that was pushed before has been posted.
 */

import { bytesLimits, tellsProxies, type Transferable } from "./_runtime.ts";
import {
  copiedIsText,
  copiedSize,
  copyPlain,
  NOT_PLAIN,
  weigh,
} from "./_snapshot.ts";
import { spell, textOf } from "./_text.ts";
import { BYTES, isBuffer, PACKED } from "./_wire.ts";

/** The promise of a message that has been pushed: who awaits it goes on when it has been posted. */
export const DONE: Promise<void> = Promise.resolve();

/** Weights below this are not worth a field in the frame. */
const LIGHT = 1024;
const MOST_WEIGHT = 64 * 1024;
/** Bytes messages up to this size share a post. */
const SMALL = 4 * 1024;
/** Shared posts of bytes up to this size are cloned, larger ones transferred. */
const CLONED = 8 * 1024;
/** After a message that came alone, so many are not watched for company: that costs a microtask each. */
const CALM = 7;
/** Chunks kept to be used again. */
const POOL_BYTES = 4 * 1024 * 1024;

/** Posts a frame, or its text, on the port; `count`: how many objects it holds. */
export type Post = (
  frame: unknown[] | string,
  transfer?: Transferable[],
  count?: number,
) => void;

const MOST_ITEMS = 256;

/** Whether the platform's clone of some bytes copies just them. */
function coversAll({ buffer, length }: Uint8Array): boolean {
  return buffer instanceof ArrayBuffer && buffer.byteLength === length &&
    !(buffer as { resizable?: boolean }).resizable;
}

/** See the module's comment. */
export class Outbox {
  readonly #post: Post;
  readonly #one: number;
  readonly #many: number;
  readonly #weighed: (weight: number) => void;
  // Messages that wait for the end of the turn: objects or bytes, never both.
  #values: unknown[] = [];
  /** JSON gives all of them back as they are. */
  #text = true;
  #bytes: Uint8Array<ArrayBuffer> | undefined;
  #bytesUsed = 0;
  #bytesCount = 0;
  #weight = 0;
  /** A message was posted earlier in this turn: what follows shares posts. */
  #hot = false;
  /** Messages that are still taken to come alone, as those before them did. */
  #calm = 0;
  #pool: ArrayBuffer[] = [];

  /**
   * @param one The tag of a frame with one object, `many` that of one with several.
   * @param weighed Hears the weight of each frame that is posted.
   */
  constructor(
    post: Post,
    one: number,
    many: number,
    weighed: (weight: number) => void,
  ) {
    this.#post = post;
    this.#one = one;
    this.#many = many;
    this.#weighed = weighed;
  }

  /**
   * Sends one object. Throws what the platform throws when it cannot be
   * cloned; then nothing was sent.
   */
  push(value: unknown): void {
    if (this.#hot) {
      const copy = copyPlain(value);
      // After the copy: a getter of the value may have sent bytes.
      if (this.#bytesCount > 0 || copy === NOT_PLAIN) this.flush();
      if (copy !== NOT_PLAIN) return this.#join(copy);
    }
    this.#alone(value);
  }

  #join(copy: unknown): void {
    this.#values.push(copy);
    this.#text &&= copiedIsText();
    this.#weight += copiedSize();
    if (this.#values.length === MOST_ITEMS || this.#weight >= MOST_WEIGHT) {
      this.flush();
    }
  }

  /** Sends what was made of a value with endpoints or transferred parts in it; `weight`: of the value without these. */
  pushParcel(
    frame: unknown[],
    transfer: Transferable[],
    weight: number,
  ): void {
    for (const part of transfer) {
      if (isBuffer(part)) weight += part.byteLength;
    }
    this.flush();
    this.#post([...frame, weight], transfer);
    this.#weighed(weight);
    this.#heat();
  }

  #alone(value: unknown): void {
    const copy = tellsProxies ? copyPlain(value) : NOT_PLAIN;
    const copied = copy !== NOT_PLAIN;
    const text = copied && copiedIsText();
    const weight = copied ? copiedSize() : weigh(value);
    const frame = [this.#one, copied ? copy : value];
    if (weight >= LIGHT) frame.push(weight);
    this.#post(text ? textOf(frame) : frame, undefined, 1);
    if (weight >= LIGHT) this.#weighed(weight);
    this.#heat();
  }

  /** Sends one bytes message. The bytes are copied here. */
  pushBytes(source: Uint8Array): void {
    const { length } = source;
    if (this.#hot && length <= SMALL) return this.#joinBytes(source);
    this.flush();
    const spelled = spell(source);
    if (spelled !== undefined) this.#post(spelled);
    else this.#postBytes(source);
    this.#weighed(length);
    this.#heat();
  }

  #postBytes(source: Uint8Array): void {
    const { length } = source;
    const { cloned, wholeCloned } = bytesLimits;
    let chunk = length > cloned ? this.#reused(source) : undefined;
    if (chunk === undefined) {
      if (length <= wholeCloned && coversAll(source)) {
        return this.#post([BYTES, source.buffer]);
      }
      chunk = source.slice().buffer as ArrayBuffer;
    }
    this.#post([BYTES, chunk], length > cloned ? [chunk] : undefined);
  }

  #joinBytes(source: Uint8Array): void {
    if (this.#values.length > 0) this.flush();
    const { length } = source;
    const start = this.#bytesUsed;
    const end = start + 4 + ((length + 3) & ~3);
    if (this.#bytes === undefined || end > this.#bytes.length) this.#grow(end);
    const bytes = this.#bytes!;
    bytes[start] = length;
    bytes[start + 1] = length >> 8;
    bytes[start + 2] = bytes[start + 3] = 0;
    bytes.set(source, start + 4);
    this.#bytesUsed = end;
    this.#bytesCount++;
    this.#weight += length;
    if (this.#bytesCount === MOST_ITEMS || end >= MOST_WEIGHT) this.flush();
  }

  #grow(needed: number): void {
    const grown = new Uint8Array(Math.max(2 * needed, 1024));
    if (this.#bytes) grown.set(this.#bytes.subarray(0, this.#bytesUsed));
    this.#bytes = grown;
  }

  /** Posts what waits. */
  flush(): void {
    if (this.#bytesCount > 0) {
      const packed = this.#bytes!.slice(0, this.#bytesUsed);
      const frame = [PACKED, packed.buffer];
      if (packed.length > CLONED) this.#post(frame, [packed.buffer]);
      else this.#post(frame);
      this.#weighed(this.#weight);
    } else if (this.#values.length > 0) {
      const frame: unknown[] = [this.#many, this.#values];
      if (this.#weight >= LIGHT) {
        frame.push(this.#weight);
        this.#weighed(this.#weight);
      }
      const text = this.#text ? textOf(frame) : frame;
      this.#post(text, undefined, this.#values.length);
      this.#values = [];
      this.#text = true;
    }
    this.#bytesUsed = this.#bytesCount = this.#weight = 0;
  }

  #heat(): void {
    if (this.#hot || this.#calm-- > 0) return;
    this.#hot = true;
    DONE.then(this.#endOfTurn);
  }

  readonly #endOfTurn = (): void => {
    this.#hot = false;
    this.#calm = this.#bytesCount + this.#values.length > 0 ? 0 : CALM;
    this.flush();
  };

  /** A chunk that came back, with a copy of the bytes in it. */
  #reused(source: Uint8Array): ArrayBuffer | undefined {
    const pool = this.#pool;
    const chunk = pool.pop();
    if (chunk === undefined) return undefined;
    if (chunk.byteLength !== source.length) {
      pool.length = 0; // the sizes have changed
      return undefined;
    }
    new Uint8Array(chunk).set(source);
    return chunk;
  }

  /** Takes chunks back from the reader to be used again. */
  recycle(chunks: unknown): void {
    if (!Array.isArray(chunks)) return;
    for (const chunk of chunks) {
      if (!isBuffer(chunk) || chunk.byteLength === 0) continue;
      const room = Math.max(1, POOL_BYTES / chunk.byteLength);
      if (this.#pool.length < room) this.#pool.push(chunk);
    }
  }
}
