/**
 * How an end of a pipe reaches its peer: a port, or several while one of the
 * two moves to another thread; what is sent keeps its order.
 *
 * Moving. A port that never started travels as it is, with what is queued in
 * it; a started one too, except in Deno. There the end is replugged:
 *
 *     mover M of end A             peer end B                new holder N of A
 *  1. REPLUG(b') on the old port →
 *  2. descriptor with a' and the reading side of a drain  →
 *  3. (forwards old port → drain)                            sends on a', reads the drain
 *  4.                              ← LAST on the old port;
 *                                  from now on uses b' only
 *  5. forwards LAST, closes both →                           drain ends: reads a'
 *
 *  Both ends moving at once: each mover reads the other's REPLUG instead of
 *  LAST, forwards it and closes; each new holder then reads the port that came
 *  with it, and still sends on its own. Each end counts its moves, and the
 *  peer's that it knows of: a REPLUG whose sender did not yet know of the
 *  latest move here is such a crossing, any other has to be answered.
 *  Mover or peer dying: its ports close, which counts as LAST; what had not
 *  been forwarded is lost with the mover. The new holder, when it finds its
 *  drain cut off (or CUT in it, from the drain of a mover before), reports all
 *  as taken: nobody will take what is lost, and sends would wait for that. It
 *  tells the peer (CUT): after a crossing that sends to where the mover was.
 *  Where a lock tells of the peer's death, only the mover hears: it forwards EOF.
 *
 * Invariants: of `#sources` only the first is started, the others keep what
 * comes until it is their turn; after `close`, and when what `leave` returned
 * has been given away, no port of this end is open here.
 */

import { transferOf } from "./_handoff.ts";
import {
  adopt,
  isPort,
  openChannel,
  type OpenPort,
  type PortListener,
} from "./_port.ts";
import {
  isTransferred,
  settled,
  startedPortsTravel,
  type Transferable,
  travelLoses,
} from "./_runtime.ts";
import { Waiter } from "./_waiters.ts";
import {
  CUT,
  EOF,
  type Frame,
  isBuffer,
  isCount,
  LAST,
  PARCEL,
  REPLUG,
} from "./_wire.ts";

/** What has to be transferred with a frame that is passed on. */
export function transferOfFrame(frame: Frame): Transferable[] {
  const field = frame[1];
  if (frame[0] === PARCEL) return transferOf(field);
  return isBuffer(field) || isTransferred(field) ? [field] : [];
}

/** A well-formed REPLUG. */
function isReplug(
  frame: Frame,
): frame is [tag: number, port: MessagePort, theirs: number, ours: number] {
  return frame[0] === REPLUG && isPort(frame[1]) &&
    isCount(frame[2]) && isCount(frame[3]);
}

/**
 * Passes on what is still on its way to an end that was replugged; keeps the
 * thread alive until then. A peer that was never heard of has not been used,
 * and when it is, it uses the new port.
 */
async function forward(
  from: OpenPort[],
  to: OpenPort,
  out: OpenPort,
  heard: boolean,
): Promise<void> {
  const held = new Waiter<void>();
  const end = (last: Frame = [LAST]) => {
    to.post(last, transferOfFrame(last));
    to.close();
    for (const port of from) port.close();
    held.letGo();
  };
  const next = () => {
    from.shift()!.close();
    if (from[0]) from[0].start(reader);
    else end();
  };
  const reader: PortListener = {
    frame(_, frame) {
      heard = true;
      if (frame[0] === LAST) next();
      else if (frame[0] === EOF || isReplug(frame)) end(frame);
      else if (frame[0] !== REPLUG) to.post(frame, transferOfFrame(frame));
    },
    gone(port) {
      // Nobody goes on at the new port.
      if (port === out && port.watch.ended) return end([EOF]);
      to.post([CUT]);
      next();
    },
  };
  from[0]!.start(reader);
  // It may have begun in the moment in which this end left.
  await settled(() => heard);
  if (!heard) held.letGo();
}

/** What hears of a route. */
export interface RouteListener {
  /** A frame for the end itself. */
  frame(frame: Frame): void;
  /** Some is lost that was on its way, here or to the peer. */
  lostSome(): void;
  /** The peer is gone: nothing more will come. */
  end(): void;
}

/** See the module's comment. */
export class Route {
  /** Where this end sends. None: it is closed, or the peer is gone. */
  out: OpenPort | undefined;
  /** What is read, one after the other: only the first is started. */
  #sources: OpenPort[];
  readonly #listener: RouteListener;
  /** How often this end was replugged, and the peer as far as known here. */
  moves: [ours: number, theirs: number] = [0, 0];
  /** Some is lost that was to come in before the next port, perhaps where the peer has moved to. */
  #missed = false;

  constructor(ports: OpenPort[], listener: RouteListener) {
    this.#sources = ports;
    this.out = ports.at(-1);
    this.#listener = listener;
  }

  /** Whether it receives; also when it has ended. */
  get started(): boolean {
    return this.#sources[0]?.started !== false;
  }

  /** Begins to receive. */
  start(): void {
    this.#sources[0]!.start(this.#reader);
  }

  close(): void {
    this.out?.close();
    for (const port of this.#sources) port.close();
    this.out = undefined;
    this.#sources = [];
  }

  /**
   * This end moves; `near`: the other one is in this thread.
   *
   * @returns The ports to be given away: what is to be read one after the
   * other, and last where to send. Several: the peer has to answer.
   */
  leave(near: boolean): OpenPort[] {
    const [first] = this.#sources;
    const fresh = near && this.#sources.length === 1 && !first!.started;
    if (first && !fresh) {
      if (startedPortsTravel() || !(first.started || travelLoses())) {
        first.readyToTravel(this.#reader);
      } else this.#replug();
    }
    const open = new Set(this.#sources);
    if (this.out) open.add(this.out);
    return [...open];
  }

  #replug(): void {
    const [drain, feed] = openChannel();
    const out = this.out!;
    this.moves[0]++;
    const near = this.#plug(out);
    if (!this.#sources.includes(out)) out.close();
    const heard = this.moves[0] > 1 || out.watch.received > 0;
    if (this.#missed) feed.post([CUT]);
    forward(this.#sources, feed, out, heard);
    this.out = near;
    this.#sources = [drain, near];
  }

  /** Tells the peer of another port, and returns the one that it leads to. */
  #plug(by: OpenPort): OpenPort {
    const [near, far] = openChannel();
    const raw = far.give();
    by.post([REPLUG, raw, ...this.moves], [raw]);
    near.watch.peer = by.watch.peer;
    return near;
  }

  readonly #reader: PortListener = {
    frame: (port, frame) => {
      switch (frame[0]) {
        case REPLUG:
          return this.#replugged(frame);
        case LAST:
          if (port !== this.out) this.#next(port);
          return;
        case CUT:
          return this.#cut(port);
        default:
          return this.#listener.frame(frame);
      }
    },
    gone: (port) => {
      this.#missed = true;
      this.#next(port);
    },
  };

  #replugged(frame: Frame): void {
    if (!isReplug(frame)) return;
    const [, raw, theirs, ours] = frame;
    const fresh = adopt(raw);
    this.moves[1] = theirs;
    if (ours >= this.moves[0]) { // no crossing: the mover waits for an answer
      this.out!.post([LAST]);
      this.out!.close();
      this.out = fresh;
    }
    for (const port of this.#sources) if (port !== this.out) port.close();
    this.#sources = [fresh];
    // Where the peer has moved to is known all the same: it need not be told.
    if (this.#missed) this.#listener.lostSome();
    this.#missed = false;
    this.start();
  }

  /** A mover of this end has ended with what it was to pass on; or, after a crossing, one of the other end. */
  #cut(port: OpenPort): void {
    if (this.#sources.includes(this.out!)) {
      if (port !== this.out) this.#missed = true;
      return;
    }
    // It has not passed on where this end sends: the peer is told again.
    this.out!.close();
    this.out = this.#plug(this.#sources[0]!);
    this.#sources.push(this.out);
    this.#listener.lostSome(); // all that was sent there
  }

  /** A source has come to its end. */
  #next(port: OpenPort): void {
    if (port === this.out) return this.#listener.end();
    if (this.#missed) {
      this.#missed = false;
      // After a crossing the peer may not hear that its port has gone with the mover
      // (Bun). Before the report of all as taken: what that lets go would be lost, too.
      this.out!.post([CUT]);
      this.#listener.lostSome();
    }
    port.close();
    this.#sources.shift();
    if (this.#sources.length === 0) this.#sources.push(this.out!);
    this.start();
  }
}
