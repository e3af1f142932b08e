// Every order of events in small worlds, explored exhaustively: what may come next is a call of a
// thread's program, the arrival of the next frame on a port, a timeout, an abort, the end of a thread,
// a shutdown. A world is run from its beginning for each branch, by the published state machines (see
// `_world.ts`), and a state that was seen before is not gone on from.
//
// Granularity. "By event": a call, or the handling of a frame, is one step; frames and words are where
// races between steps happen. "By atomic step": in addition an event may be interrupted before any of its
// operations on the shared words by a whole event of another thread (SCALE 10 and more: by two). For
// that `Atomics` itself is replaced while a world runs. And a thread that may end may do so before any of
// its own operations: what it would have written and posted after that is undone. Not explored:
// interrupted events that interrupt each other.
//
// Checked in every state: the invariants of `_core.ts`, each item in one place and got once; at each end:
// nobody waits who could be served, nothing is lost, each thread got each producer's items in order.

import { assert, assertEquals } from "@std/assert";
import { scale, test } from "./_harness.ts";
import { Clock } from "./_clock.ts";
import { type Member, settle, World } from "./_world.ts";
import { DROPPED, GOT, OPEN, STATE, TAIL } from "../_words.ts";

type Op = "put" | "get" | "get ms" | "put ms" | "get signal" | "put signal";

/** A small world. */
interface Setup {
  maxsize: number;
  words: boolean;
  /** The first thread is the owner's. */
  local?: boolean;
  /** What each thread does, one call after the other. */
  programs: Op[][];
  /** The thread that may end at any time. */
  ends?: number;
  /** The thread that may shut the queue down at any time. */
  shuts?: number;
  immediate?: boolean;
  /** After how many new items copies are posted unasked. */
  pushStep?: number;
}

/** An event, and those that interrupt it: before which of its atomic operations, and what. */
interface Step {
  event: string;
  within: [number, string][];
}

/** Where a step could be interrupted (further), and by what. */
type Points = [number, string[]][];

/** Within an event: its own thread ends here. */
const DIES = "its end";

interface Thread {
  member: Member;
  program: Op[];
  at: number;
  busy: boolean;
  ms: number;
  aborter: AbortController | undefined;
  got: number[];
}

const real = globalThis.Atomics;
let hook: (() => void) | undefined;

/** `Atomics` that calls the hook before each operation. */
const stepped = Object.fromEntries(
  (["load", "store", "add", "sub", "exchange", "compareExchange"] as const)
    .map((name) => [name, (...args: [Int32Array, number, number, number]) => {
      hook?.();
      return real[name](...args);
    }]),
);

/** A world while it runs. */
class Run {
  readonly world: World;
  readonly threads: Thread[];
  readonly #setup: Setup;
  readonly #clock = new Clock();
  readonly #got = new Set<number>();
  readonly #producers = new Map<number, number>();
  /** Items whose put has resolved. */
  readonly #put = new Set<number>();
  /** Items that a thread was given as it ended. */
  readonly #buried = new Set<number>();
  /** What a thread that has ended in the midst of an event had done by then. */
  #undo: (() => void) | undefined;
  #shut = false;
  #shutSettled = false;
  /** A get has heard that the queue is shut down, and empty. */
  #drained = false;
  #items = 0;
  #outcomes: string[] = [];

  constructor(setup: Setup) {
    const { maxsize, words, local = false, programs, pushStep = 1 } = setup;
    const remotes = programs.length - (local ? 1 : 0);
    this.#setup = setup;
    this.world = new World({
      maxsize,
      words,
      remotes,
      local,
      joinable: false,
      pushStep,
    });
    this.threads = programs.map((program, i) => ({
      member: this.world.members[i]!,
      program,
      at: 0,
      busy: false,
      ms: 0,
      aborter: undefined,
      got: [],
    }));
    this.#clock.install();
    Object.assign(globalThis, { Atomics: stepped });
  }

  stop(): void {
    Object.assign(globalThis, { Atomics: real });
    for (const { client } of this.world.members) client.ownerEnded();
    this.#clock.restore();
  }

  /** What may happen next. */
  events(): string[] {
    const events: string[] = [];
    const timers = this.#clock.pending();
    this.threads.forEach(({ member, program, at, busy, ms, aborter }, i) => {
      if (this.world.canRise(member)) events.push(`up ${i}`);
      if (this.world.canFall(member)) events.push(`down ${i}`);
      if (!member.alive) return;
      if (!busy && at < program.length) events.push(`op ${i}`);
      if (busy && timers.includes(ms)) events.push(`timeout ${i}`);
      if (busy && aborter && !aborter.signal.aborted) events.push(`abort ${i}`);
      if (this.#setup.ends === i) events.push(`end ${i}`);
      if (this.#setup.shuts === i && !this.#shut) events.push(`shutdown ${i}`);
    });
    return events;
  }

  /** The thread in which an event happens; none for the end of one. */
  #where(event: string): number | undefined {
    const [what, index] = event.split(" ");
    if (what === "end") return undefined;
    const owner = -1;
    if (what === "up") return owner;
    return this.#setup.local && index === "0" ? owner : Number(index);
  }

  /** Does a step; returns where it could be interrupted further, or `undefined`: it was not possible. */
  async do(
    { event, within }: Step,
    deeper: boolean,
  ): Promise<Points | undefined> {
    const points: Points = [];
    const here = this.#where(event);
    const mortal = here !== undefined && here === this.#setup.ends;
    const others = () =>
      this.events().filter((other) =>
        this.#where(other) !== here && !other.startsWith("end") &&
        other !== event
      );
    const rest = [...within];
    const [from = 0] = within[within.length - 1] ?? [];
    let count = 0;
    let possible = this.events().includes(event);
    if (!possible) return undefined;
    hook = () => {
      const interrupted = hook;
      hook = undefined;
      count++;
      while (rest[0]?.[0] === count) {
        const [, other] = rest.shift()!;
        if (other === DIES) this.#die(this.threads[here!]!.member);
        else if (others().includes(other)) this.#happen(other);
        else possible = false;
      }
      if (deeper && count >= from) {
        points.push([count, mortal ? [...others(), DIES] : others()]);
      }
      if (!this.#undo) hook = interrupted;
    };
    if (!deeper && within.length === 0) hook = undefined;
    this.#happen(event);
    hook = undefined;
    await settle();
    this.#undo?.();
    this.#undo = undefined;
    return possible && rest.length === 0 ? points : undefined;
  }

  /** A thread ends here: what it does from now on is undone. */
  #die(member: Member): void {
    const { words } = this.world.core;
    const [shared, mine] = [words.slice(), member.handle.words.slice()];
    const posted = member.up.length;
    this.world.end(member);
    this.world.torn = true;
    this.#undo = () => {
      words.set(shared);
      member.handle.words.set(mine);
      member.up.length = posted;
    };
  }

  #happen(event: string): void {
    const [what, index] = event.split(" ");
    const thread = this.threads[Number(index)]!;
    const { member } = thread;
    if (what === "up") this.world.rise(member);
    else if (what === "down") this.world.fall(member);
    else if (what === "end") this.world.end(member);
    else if (what === "timeout") this.#clock.fire(thread.ms);
    else if (what === "abort") thread.aborter!.abort("aborted");
    else if (what === "op") this.#call(thread);
    else {
      this.#shut = true;
      member.client.shutdown(this.#setup.immediate ?? false)
        .then(() => this.#shutSettled = true, () => {});
    }
  }

  #call(thread: Thread): void {
    const index = this.threads.indexOf(thread);
    const [kind, how] = thread.program[thread.at]!.split(" ");
    thread.ms = how === "ms" ? 1000 + index * 100 + thread.at : 0;
    thread.aborter = how === "signal" ? new AbortController() : undefined;
    const timeout = thread.ms || Infinity;
    const { client } = thread.member;
    const signal = thread.aborter?.signal;
    thread.busy = true;
    thread.at++;
    const settled = (outcome: string) => {
      if (!thread.member.alive) return;
      thread.busy = false;
      this.#outcomes.push(`${index} ${thread.at} ${outcome}`);
    };
    if (kind === "put") {
      // Numbered by thread and place, so that states can be compared.
      const item = (index + 1) * 10 + thread.at;
      this.#producers.set(item, index);
      this.#items++;
      client.put(item, undefined, timeout, signal).then(() => {
        if (thread.member.alive) this.#put.add(item);
        settled("put");
      }, (error) => {
        settled(`refused ${error.name ?? error}`);
        this.#producers.delete(item);
      });
    } else {
      client.get(timeout, signal).then((item) => {
        if (!thread.member.alive) return void this.#buried.add(item as number);
        assert(!this.#got.has(item as number), `item ${item} was got twice`);
        this.#got.add(item as number);
        thread.got.push(item as number);
        settled(`got ${item}`);
      }, (error) => {
        if (thread.member.alive) this.#drained ||= error.name === "ShutDown";
        settled(`refused ${error.name ?? error}`);
      });
    }
  }

  check(): void {
    this.world.check(this.#got);
  }

  fingerprint(): string {
    return JSON.stringify([
      this.world.fingerprint(),
      this.threads.map(({ at, busy, got, aborter, ms }) => [
        at,
        busy,
        got,
        aborter?.signal.aborted,
        ms,
      ]),
      this.#clock.pending(),
      [...this.#put].sort(),
      this.#shut,
      this.#shutSettled,
      this.#drained,
    ]);
  }

  /** Nothing can happen any more. */
  finish(): void {
    this.world.torn = false;
    this.check();
    const { words, maxsize } = this.world.core;
    const available = this.world.available();
    const size = Atomics.load(words, TAIL) - Atomics.load(words, GOT);
    const state = Atomics.load(words, STATE);
    assertEquals(size, available.size, "what is counted is there");
    if (this.#drained) assertEquals(size, 0, "nothing comes after ShutDown");
    for (const { busy, program, at, member } of this.threads) {
      if (!busy || !member.alive) continue;
      assertEquals(state, OPEN, "nobody waits after a shutdown");
      if (program[at - 1]!.startsWith("get")) {
        assertEquals(size, 0, "a get waits while there is an item");
      } else assert(maxsize > 0 && size >= maxsize, "a put waits with room");
    }
    for (const item of this.#put) {
      assert(
        this.#got.has(item) || available.has(item) ||
          this.#buried.has(item) || state === DROPPED,
        `item ${item} was lost`,
      );
    }
    for (const item of available) {
      assert(!this.#got.has(item), `item ${item} is doubled`);
    }
    if (this.#shut) assert(this.#shutSettled || this.#setup.ends !== undefined);
    this.#checkOrder();
  }

  #checkOrder(): void {
    for (const { got, member } of this.threads) {
      const last = new Map<number, number>();
      for (const item of got) {
        if (this.world.strayed(item, member)) continue;
        const producer = Math.floor(item / 10);
        assert((last.get(producer) ?? 0) < item, `order of ${got}`);
        last.set(producer, item);
      }
    }
  }
}

/** A number for a text (cyrb53): equal for equal ones, and hardly ever else. */
function hash(text: string): number {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 2654435761);
    b = Math.imul(b ^ code, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^
    Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^
    Math.imul(a ^ (a >>> 13), 3266489909);
  return 4294967296 * (2097151 & b) + (a >>> 0);
}

interface Totals {
  worlds: number;
  states: number;
  steps: number;
  depth: number;
}

/** Explores a world; `interruptions`: how many of them one event may suffer. */
async function explore(
  setup: Setup,
  interruptions: number,
  totals: Totals,
): Promise<void> {
  const seen = new Set<number>();
  const todo: Step[][] = [[]];
  let turns = 0;
  totals.worlds++;
  while (todo.length > 0) {
    if (++turns % 500 === 0) await new Promise((done) => setTimeout(done));
    const path = todo.pop()!;
    const run = new Run(setup);
    try {
      const last = path.length - 1;
      for (let i = 0; i < last; i++) {
        await run.do(path[i]!, false);
      }
      for (let step = path[last];; step = path[path.length - 1]) {
        if (step) {
          const deeper = step.within.length < interruptions;
          const points = await run.do(step, deeper);
          if (points === undefined) break;
          for (const [at, others] of points) {
            for (const other of others) {
              const within: Step["within"] = [...step.within, [at, other]];
              todo.push([...path.slice(0, -1), { event: step.event, within }]);
            }
          }
          totals.steps++;
        }
        run.check();
        const state = hash(run.fingerprint());
        if (seen.has(state)) break;
        seen.add(state);
        totals.depth = Math.max(totals.depth, path.length);
        const [next, ...others] = run.events();
        if (next === undefined) {
          run.finish();
          break;
        }
        for (const event of others) todo.push([...path, { event, within: [] }]);
        path.push({ event: next, within: [] });
      }
    } catch (error) {
      run.stop();
      console.error(JSON.stringify(setup));
      console.error(
        path.map(({ event, within }) =>
          [event, ...within.map(([at, other]) => `${other} before ${at}`)].join(
            ", ",
          )
        ).join("\n"),
      );
      throw error;
    } finally {
      run.stop();
      await settle();
    }
  }
  totals.states += seen.size;
}

type Faults = Partial<Setup> & { programs?: Op[][] };

const plain: Op[][] = [["put", "put"], ["put"], ["get", "get"], ["get"]];

/** Copies come while a get is on its way to the owner. Small enough to be run whole. */
const UNASKED = "copies unasked";

/** The faults, one at a time; thread 0 and 1 put, 2 and 3 get. */
const faults: Record<string, Faults> = {
  none: {},
  [UNASKED]: { programs: [["put", "put", "put"], ["get", "get"], ["get"]] },
  "a get that times out": {
    programs: [["put", "put"], ["put"], ["get", "get ms"], ["get"]],
  },
  "a put that times out": {
    programs: [["put", "put ms"], ["put"], ["get", "get"], ["get"]],
  },
  "a get that is aborted": {
    programs: [["put", "put"], ["put"], ["get", "get signal"], ["get"]],
  },
  "a put that is aborted": {
    programs: [["put", "put"], ["put signal"], ["get", "get"], ["get"]],
  },
  "a consumer that ends": { ends: 2 },
  "a producer that ends": { ends: 0 },
  "a consumer that ends, and its get times out": {
    programs: [["put", "put"], ["put"], ["get", "get ms"], ["get"]],
    ends: 2,
  },
  "a producer that ends, and its put times out": {
    programs: [["put", "put ms"], ["put"], ["get", "get"], ["get"]],
    ends: 0,
  },
  "a shutdown": { shuts: 1 },
  "an immediate shutdown": { shuts: 1, immediate: true },
};

/** All of them at once, in a world of fewer calls. */
const together: Faults = {
  programs: [["put", "put ms"], ["put"], ["get", "get signal"], ["get"]],
  ends: 2,
  shuts: 1,
};

function report(title: string, totals: Totals): void {
  const { worlds, states, steps, depth } = totals;
  console.log(
    `${title}: ${worlds} worlds, ${states} states, ${steps} steps, depth ${depth}`,
  );
}

const long = scale(1) > 1;

test(
  "QueueCore and Client keep their promises in every order of events",
  async () => {
    const totals = { worlds: 0, states: 0, steps: 0, depth: 0 };
    for (const words of [true, false]) {
      for (const maxsize of long ? [0, 1, 2] : [words ? 0 : 2, 1]) {
        for (const local of long ? [false, true] : [false]) {
          for (const [name, fault] of Object.entries(faults)) {
            // The short form takes smaller worlds.
            const programs = (fault.programs ?? plain).map((program, i) =>
              long || i === 0 || name === UNASKED ? program : program.slice(-1)
            ).slice(0, long ? 4 : 3);
            const { ends } = fault;
            if (local && ends === 0) continue;
            await explore(
              { maxsize, words, local, ...fault, programs },
              0,
              totals,
            );
            if (long) report(`${name}, words ${words}, ${maxsize}`, totals);
          }
        }
        if (long && scale(1) >= 10) {
          const setup = { maxsize, words, programs: plain, ...together };
          await explore(setup, 0, totals);
          report(`all at once, words ${words}, ${maxsize}`, totals);
        }
      }
    }
    report("By event", totals);
  },
  { deadline: 36_000_000 },
);

test(
  "QueueCore and Client keep their promises when interrupted at any atomic step",
  async () => {
    const totals = { worlds: 0, states: 0, steps: 0, depth: 0 };
    for (const maxsize of long ? [0, 1, 2] : [1]) {
      for (const local of long ? [false, true] : [false]) {
        for (const [name, fault] of Object.entries(faults)) {
          const programs = (fault.programs ?? plain).map((program, i) =>
            long && i === 0 ? program : program.slice(-1)
          ).slice(0, long ? 4 : 3);
          if (local && fault.ends === 0) continue;
          await explore(
            { maxsize, words: true, local, ...fault, programs },
            scale(1) >= 10 ? 2 : 1,
            totals,
          );
          if (long) report(`${name}, ${maxsize}`, totals);
        }
      }
    }
    const programs: Op[][] = [["put", "put", "put"], ["get", "get", "get"]];
    const unasked = { maxsize: 0, words: true, programs, pushStep: 2 };
    await explore(unasked, 1, totals);
    const room: Op[][] = [["put"], ["put"], ["get"]];
    const torn = { maxsize: 2, words: true, programs: room, ends: 2 };
    await explore(torn, 1, totals);
    report("By atomic step", totals);
  },
  { deadline: 36_000_000 },
);
