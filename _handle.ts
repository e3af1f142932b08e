/** What the owner of a queue knows of one handle. */

import type { Entry } from "./_list.ts";
import type { Transferable } from "./_runtime.ts";
import { isCount } from "./_wire.ts";
import {
  ADMITTED,
  FIRST_SLOT,
  HANDLE_WORDS,
  HITS,
  LAST_RECEIVED,
  MISSES,
} from "./_words.ts";

/** Copies ahead that one gets at first. */
export const FIRST_WINDOW = 16;
const MOST_WINDOW = 1024;

/** An item and its number. */
export interface Numbered {
  index: number;
  item: unknown;
}

/** Items that were posted to a handle and have not reached a caller yet. */
export interface Delivery {
  seq: number;
  /** Of the get that they are for. */
  id: number;
  items: Numbered[];
}

/** A call of a handle that waits at the owner: a get, a put or a join. */
export interface Call extends Entry {
  handle: Handle;
  id: number;
  slot: number;
  wait: boolean;
  /** Of a get: the most items. */
  max: number;
  /** What handles had posted when it came, and has not arrived yet. */
  underway: [Handle, number][] | undefined;
  /** Of a put, the next one last; none: keeps a place. */
  items: unknown[];
}

type Send = (
  frame: unknown[],
  transfer?: Transferable[],
  text?: boolean,
) => void;

/** See the module's comment. */
export class Handle {
  /** Posts a frame to the handle; `text`: JSON keeps everything in it. */
  readonly send: Send;
  /** Its words. */
  readonly words: Int32Array;
  /** Without shared memory: its thread does not see them. */
  readonly blind: boolean;
  /** In the owner's thread: gets no copies ahead, and items as they are. */
  readonly local: boolean;
  closed = false;
  /** Put items that have come in. */
  arrived = 0;
  /** The last delivery. */
  seq = 0;
  inFlight: Delivery[] = [];
  /** Items with endpoints, for gets that have not said that they still want them. */
  readonly offers: Map<number, Numbered[]> = new Map();
  /** Its calls that wait. */
  readonly calls: Map<number, Call> = new Map();
  /** Waiting puts that have come in. */
  offered = 0;
  /** Handles that it has shared and that have come in. */
  shared = 0;
  /** Copies up to this item have been posted ahead, at the most `window` of unclaimed ones. */
  ahead = 0;
  window: number = FIRST_WINDOW;
  /** What was known of `HITS` and `MISSES` when the window was last adapted. */
  hits = 0;
  misses = 0;

  constructor(
    send: Send,
    words: Int32Array | undefined,
    local: boolean,
  ) {
    this.send = send;
    this.words = words ?? new Int32Array(HANDLE_WORDS);
    this.blind = words === undefined;
    this.local = local;
  }

  /** Whether it can be the number of a new call. */
  isNew(id: unknown): id is number {
    return isCount(id) && !this.calls.has(id) && !this.offers.has(id);
  }

  /** Whether it can be the slot of a call; 0: none. */
  isSlot(value: unknown): value is number {
    return value === 0 ||
      (!this.blind && isCount(value) && value >= FIRST_SLOT &&
        value < HANDLE_WORDS);
  }

  /** How many items it has been admitted to put that have not come in. */
  get missing(): number {
    return (Atomics.load(this.words, ADMITTED) - this.arrived) | 0;
  }

  /** Of how many unclaimed items, from number `base` on, it has copies, or will have soon. */
  copied(base: number): number {
    const copied = (this.ahead - base) | 0;
    // One that was idle for long: the numbers have wrapped.
    return copied > 0 && copied <= MOST_WINDOW ? copied : 0;
  }

  /** The window doubles for one that claims its copies, and shrinks otherwise. */
  adapt(): void {
    const { words } = this;
    const hits = (Atomics.load(words, HITS) - this.hits) | 0;
    const misses = (Atomics.load(words, MISSES) - this.misses) | 0;
    this.hits = (this.hits + hits) | 0;
    this.misses = (this.misses + misses) | 0;
    if (hits > misses) this.window = Math.min(MOST_WINDOW, this.window * 2);
    else if (hits * 4 < misses) this.window = Math.max(1, this.window >> 1);
  }

  /** Forgets deliveries that have reached their callers. */
  trim(): void {
    const { words, inFlight, blind } = this;
    if (blind) return; // it says so
    const received = Atomics.load(words, LAST_RECEIVED);
    while (inFlight.length > 0 && ((inFlight[0]!.seq - received) | 0) <= 0) {
      inFlight.shift();
    }
  }
}
