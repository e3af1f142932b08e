/**
 * The frames on a port. A frame is an array whose first element is one of the
 * tags below (a magic number, the protocol's version, 1, and the kind in one);
 * anything else that arrives is foreign and ignored. A frame of which JSON
 * keeps everything may travel as text, and so may short bytes: the tag's four
 * bytes and theirs, a character each.
 */

// --- Connections -----------------------------------------------------------
/** `[OBJECT, value, weight?]`: one object. */
export const OBJECT = 0x1dc0_0100;
/** `[OBJECTS, values, weight?]`: several objects, in order. */
export const OBJECTS = 0x1dc0_0101;
/** `[BYTES, ArrayBuffer | Uint8Array]`: one bytes message. */
export const BYTES = 0x1dc0_0102;
/** `[PACKED, ArrayBuffer | Uint8Array]`: small bytes messages, each a length (u32) and its bytes, padded to 4. */
export const PACKED = 0x1dc0_0103;
/** `[PARCEL, packed, weight?]`: one object with endpoints or transferred parts in it. */
export const PARCEL = 0x1dc0_0104;
/** `[TOOK, messages, weight, window?, chunks?]`: what the reader took since it last said so; how many messages it allows to be unread; chunks to use again. */
export const TOOK = 0x1dc0_0105;
/** `[EOF]`: the last frame of an end that closed. */
export const EOF = 0x1dc0_0106;
/** `[REPLUG, port, moves, known]`: the sender's last frame on this port; it goes on at the given one. How often it moved so, and the reader as far as known to it. */
export const REPLUG = 0x1dc0_0107;
/** `[LAST]`: the sender's last frame on this port, answering REPLUG. */
export const LAST = 0x1dc0_0108;
/** `[CUT]`: from here to the end of this port the rest is lost, with the thread that was to pass it on. */
export const CUT = 0x1dc0_0109;
/** `[WAITS]`: a send waits for room: what was taken is to be reported soon. */
export const WAITS = 0x1dc0_010a;

// --- Queues, handle to owner -------------------------------------------------
/** `[PUT, item, weight?, id?]`: admitted already, through the shared words; `id`: to be answered. */
export const PUT = 0x1dc0_0110;
/** `[PUT_SEVERAL, items, weight?]`: several of them. */
export const PUT_SEVERAL = 0x1dc0_0111;
/** `[PUT_PARCEL, packed?, id?]`: as PUT, with endpoints or transferred parts; without: gives the place up. */
export const PUT_PARCEL = 0x1dc0_0112;
/** `[PUT_WAIT, id, slot, items, wait]`: to be stored when there is room; no items: keep a place. */
export const PUT_WAIT = 0x1dc0_0113;
/** `[GET, id, slot, max, wait]`: asks for up to `max` items. */
export const GET = 0x1dc0_0115;
/** `[MORE]`: asks for copies of the next items, unclaimed. */
export const MORE = 0x1dc0_0116;
/** `[CANCEL, id, late]`: a waiting call is given up; a get that is only late still takes what has been put, and waits no more. */
export const CANCEL = 0x1dc0_0117;
/** `[RECEIVED, seq]`: deliveries up to this one have reached their callers. */
export const RECEIVED = 0x1dc0_0118;
/** `[GIVE_BACK, seq, parcels]`: this delivery came too late; the items are still the owner's. */
export const GIVE_BACK = 0x1dc0_0119;
/** `[FREED]`: the shared words changed and someone at the owner waits for that. */
export const FREED = 0x1dc0_011a;
/** `[SHARE, port, words]`: one more handle. */
export const SHARE = 0x1dc0_011b;
/** `[ASK, id, question, argument]`: counts, shutdown, task_done, join. */
export const ASK = 0x1dc0_011c;
/** `[CLOSE]`: this handle puts and gets no more. */
export const CLOSE = 0x1dc0_011d;
/** `[ACCEPT, id, wanted]`: answers OFFER. */
export const ACCEPT = 0x1dc0_011e;

// --- Queues, owner to handle -------------------------------------------------
/** `[ITEMS, id, seq, first, claimed, items, parcels?]`: items for get `id`, then unclaimed copies; `first` is the number of the first copy, `parcels` says which of the claimed ones are packed. */
export const ITEMS = 0x1dc0_0120;
/** `[ANSWER, id, value, why?]`: ends a call; `why`: without what it asked for. A put that keeps a place has it, or is stored. */
export const ANSWER = 0x1dc0_0121;
/** `[CLOSED]`: answers CLOSE, when all that the handle has put is stored. */
export const CLOSED = 0x1dc0_0124;
/** `[OFFER, id]`: items with endpoints in them are there for get `id`, if it still waits. */
export const OFFER = 0x1dc0_0125;
/** `[ENDED, size]`: nobody will ever get what is left, and no task is unfinished: nothing to ask any more. */
export const ENDED = 0x1dc0_0126;

/** Why the owner ends a call without what it asked for. */
export type Refusal =
  | "empty"
  | "full"
  | "shutdown"
  | "cancelled"
  | "malformed";

/** A frame as it came in: only the tag is known to be right. */
export type Frame = [tag: number, ...fields: unknown[]];

/** Whether a message is one of our frames. */
export function isFrame(data: unknown): data is Frame {
  return Array.isArray(data) && typeof data[0] === "number" &&
    data[0] >= OBJECT &&
    data[0] <= ENDED;
}

/** Whether a value is an ArrayBuffer, of whatever realm: jsdom has classes of its own. */
export function isBuffer(value: unknown): value is ArrayBuffer {
  return value instanceof ArrayBuffer ||
    Object.prototype.toString.call(value) === "[object ArrayBuffer]";
}

/** Whether a field is a count: a number from a frame sizes nothing unchecked. */
export function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0;
}
