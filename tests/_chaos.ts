// Workers that are terminated, throw, exit, close or are stuck in loops at any moment, while a queue and
// pipes carry numbered work. What is known of each item is in shared memory, and outlives the worker.

import {
  type Connection,
  EOFError,
  Full,
  OSError,
  Pipe,
  Queue,
} from "../mod.ts";
import { force, startedPortsTravel } from "../_runtime.ts";
import { allSettled, forgetPending } from "./_pending.ts";
import { Random } from "./_random.ts";
import { callsOfEnded, spawnTask, type Task } from "./_spawn.ts";
import type { Fate, Marks } from "./workers/chaos_tasks.ts";

const module = new URL("./workers/chaos_tasks.ts", import.meta.url);

/** What came of it. */
export interface Summary {
  rounds: number;
  /** Workers that did not end in an orderly way. */
  kills: number;
  /** Items and messages received. */
  items: number;
  /** Connections that were handed over while in use. */
  moves: number;
  /** What was put or sent, and neither received nor returned to a worker just before it ended. */
  lost: number;
  doubled: number;
  /** Calls that did not settle in time. */
  hanging: number;
  /** Calls of this thread, or of a worker that ended in an orderly way, that had not settled at the end of a round. */
  pending: number;
  /** Items that calls of workers may have returned just before these ended. */
  unreported: number;
  /** Messages in the hands of a mover that was ended: only where a port in use cannot travel (Deno). */
  cut: number;
}

const PATIENCE = 20_000;
const MOST_WORKERS = 256;

function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}

function words(count: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(count * 4));
}

class Round {
  readonly random: Random;
  readonly summary: Summary;
  readonly shared: boolean;
  readonly tasks: { task: Task<unknown>; fate: Fate; killed: boolean }[] = [];
  readonly marks: Marks;

  constructor(
    random: Random,
    summary: Summary,
    shared: boolean,
    items: number,
  ) {
    this.random = random;
    this.summary = summary;
    this.shared = shared;
    this.marks = {
      got: words(items),
      put: words(items),
      open: words(MOST_WORKERS),
      began: words(MOST_WORKERS),
      loose: words(1),
    };
  }

  /** How a worker ends. */
  fate(steps: number): Fate {
    const { random } = this;
    const how = random.pick(
      ["lives", "throw", "exit", "loop", "close"] as const,
    );
    const after = how === "lives" ? Infinity : random.int(steps);
    return { how, after, seed: random.int(2 ** 31) };
  }

  start(name: string, args: object, fate: Fate): Task<unknown> {
    const { marks, shared } = this;
    const slot = this.tasks.length;
    const given = { ...args, marks, fate, shared, slot };
    const task = spawnTask(name, given, { module, linger: true });
    this.tasks.push({ task, fate, killed: false });
    return task;
  }

  /** Terminates a worker, not before it has what it was given: Bun does not always close what it has not. */
  async kill(task: Task<unknown>): Promise<void> {
    const slot = this.tasks.findIndex((one) => one.task === task);
    this.tasks[slot]!.killed = true;
    let running = true;
    task.worker.exited.then(() => running = false);
    while (running && Atomics.load(this.marks.began, slot) === 0) {
      await pause(1);
    }
    await task.worker.terminate();
  }

  /** Terminates those that are in a loop, and lets them go where they run on. */
  async loosen(): Promise<void> {
    for (const { task, fate, killed } of this.tasks) {
      if (fate.how === "loop" && !killed) await this.kill(task);
    }
    Atomics.store(this.marks.loose, 0, 1);
  }

  /** Ends all that is left, and counts those that had not done their work. */
  async end(): Promise<void> {
    const { summary, marks } = this;
    Atomics.store(marks.loose, 0, 1);
    for (const one of this.tasks) {
      const hard = one.fate.how !== "lives" && one.fate.how !== "close";
      if (one.killed || hard) summary.kills++;
      if (!one.killed) await this.kill(one.task);
      await one.task.worker.exited;
    }
  }

  /** Whether a promise settles in time; if not, says so. */
  async settles(what: string, promise: Promise<unknown>): Promise<boolean> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<boolean>((done) => {
      timer = setTimeout(() => done(false), PATIENCE);
    });
    const settled = promise.then(() => true, () => true);
    const inTime = await Promise.race([settled, late]);
    clearTimeout(timer);
    if (inTime) return true;
    this.summary.hanging++;
    console.error(`hanging: ${what}`);
    return false;
  }
}

// --- A queue -----------------------------------------------------------------------

/** Producers and consumers that may end at any moment, and a queue between them. */
async function queueRound(round: Round, each: number): Promise<void> {
  const { random, marks } = round;
  const q = new Queue<number>(random.pick([0, 1, 4, 16]));
  const consumers: Task<unknown>[] = [];
  const consumer = () => {
    consumers.push(round.start("consume", { q }, round.fate(40)));
  };
  const producers = [0, 1].map((i) =>
    round.start(
      "produce",
      { q, from: i * each, to: (i + 1) * each },
      round.fate(40),
    )
  );
  consumer();
  consumer();
  // This thread takes part.
  const here = (async () => {
    for (let item = 2 * each; item < 3 * each; item++) {
      await q.put(item);
      Atomics.store(marks.put, item, 1);
    }
  })();
  let working = true;
  const produced = round.settles(
    "put",
    Promise.all([
      here,
      ...producers.map((task) =>
        Promise.race([task.result.catch(() => {}), task.worker.exited])
      ),
    ]),
  ).then(() => working = false);
  for (let turn = 0; working; turn++) {
    await pause(random.int(30));
    if (consumers.length < 8 && random.chance(0.3)) consumer();
    if (random.chance(0.2)) await round.kill(random.pick(consumers));
    if (random.chance(0.03)) await round.kill(random.pick(producers));
    if (turn > 20) await round.loosen(); // nor are stuck workers replaced for ever
    await take(q, marks, 1);
  }
  await produced;
  await round.end();
  await rest(q, round);
  tally(round);
  const bounded = q.maxsize > 0 && filled(q);
  if (bounded && !(await bounded)) throw new Error("Places were lost");
  await round.settles("shutdown", q.shutdown());
  q.close();
  await round.settles("join_thread", q.join_thread());
}

async function take(
  q: Queue<number>,
  { got }: Marks,
  timeout: number,
): Promise<void> {
  const item = await q.get({ timeout }).catch(() => undefined);
  if (item !== undefined) Atomics.add(got, item, 1);
}

/** Gets what is left; what dead workers had comes back when their ends are known, and counts until then. */
async function rest(q: Queue<number>, round: Round): Promise<void> {
  let waits = true;
  const emptied = (async () => {
    while (waits && await q.qsize() > 0) await take(q, round.marks, 20);
  })();
  if (!(await round.settles("what dead workers had", emptied))) waits = false;
}

/** Whether a bounded queue that is empty has all its places. */
async function filled(q: Queue<number>): Promise<boolean> {
  for (let i = 0; i < q.maxsize; i++) await q.put_nowait(-1);
  return await q.put_nowait(-1).then(
    () => false,
    (error) => error instanceof Full,
  );
}

function tally({ marks, summary }: Round): void {
  const { got, put, open } = marks;
  let missing = 0;
  for (let i = 0; i < put.length; i++) {
    if (got[i]! > 1) summary.doubled++;
    if (got[i]! > 0) summary.items++;
    else if (put[i]! > 0) missing++;
  }
  // A call that had returned, in a thread that ended before it could mark that.
  const unreported = Math.min(missing, open.reduce((sum, n) => sum + n, 0));
  summary.unreported += unreported;
  summary.lost += missing - unreported;
}

// --- Pipes -------------------------------------------------------------------------

/** A worker that sends until it ends: what had been sent arrives, in order, and then the end. */
async function sendRound(round: Round, count: number): Promise<void> {
  const { random, marks, summary } = round;
  const [near, far] = Pipe<number>();
  const task = round.start("sendAll", { conn: far, count }, round.fate(30));
  let next = 0;
  const reading = (async () => {
    while (true) {
      const item = await near.recv().catch(async (error) => {
        if (!(error instanceof TypeError)) throw error;
        return new Int32Array((await near.recv_bytes()).buffer)[0]!;
      });
      if (item < next) summary.doubled++;
      else summary.lost += item - next;
      next = item + 1;
      summary.items++;
    }
  })();
  reading.catch(() => {});
  if (random.chance(0.3)) {
    await pause(random.int(50));
    await round.kill(task);
  } else await Promise.race([task.result.catch(() => {}), pause(100)]);
  await round.loosen();
  await round.end();
  if (await round.settles("recv", reading)) {
    const error = await reading.catch((error) => error);
    if (!(error instanceof EOFError)) throw error;
  }
  for (; next < count; next++) summary.lost += marks.put[next]!;
  near.close();
}

/** A connection that goes from worker to worker while numbers go both ways. */
async function moveRound(round: Round, count: number): Promise<void> {
  const { random, marks, summary } = round;
  const [near, far] = Pipe<number>();
  const sending = (async () => {
    for (let i = 0; i < count; i++) await near.send(i);
  })();
  sending.catch(() => {}); // the end may die
  const answers: number[] = [];
  const answered = (async () => {
    for await (const answer of near) answers.push(answer);
  })();
  answered.catch(() => {});
  let conn: Connection<number> | undefined = far;
  for (let hop = 0; hop < 4 && conn; hop++) {
    const [here, back] = Pipe<{ conn: Connection<number> }>();
    const most = random.int(60);
    const fate = random.chance(0.6)
      ? { how: "lives" as const, after: Infinity, seed: random.int(2 ** 31) }
      : round.fate(80);
    if (fate.how === "close") fate.how = "exit";
    const task = round.start("carry", { conn, back, most }, fate);
    conn = undefined;
    if (fate.how === "loop" || random.chance(0.2)) {
      await pause(random.int(60));
      await round.kill(task);
      Atomics.store(marks.loose, 0, 1);
    }
    const received = here.recv().then((message) => {
      conn = message.conn;
      summary.moves++;
    }, (error) => {
      if (!(error instanceof EOFError)) throw error;
    });
    await round.settles(`a move, ${JSON.stringify(fate)}`, received);
    here.close();
  }
  const survived = conn;
  if (conn) await readRest(round, conn, near, sending);
  await round.end();
  if (!survived) await peerLeft(round, near, sending, answered);
  await round.settles("the answers", answered);
  near.close();
  checkMessages(round, survived !== undefined, answers);
}

/** The connection has survived: what is left is read here. */
async function readRest(
  round: Round,
  conn: Connection<number>,
  near: Connection<number>,
  sending: Promise<void>,
): Promise<void> {
  const reading = (async () => {
    while (true) Atomics.add(round.marks.got, await conn.recv(), 1);
  })();
  reading.catch(() => {});
  await round.settles("send", sending);
  near.close();
  await round.settles("recv", reading);
  conn.close();
}

/** The connection died with a worker: the peer hears of it. */
async function peerLeft(
  round: Round,
  near: Connection<number>,
  sending: Promise<void>,
  answered: Promise<void>,
): Promise<void> {
  await round.settles("send to a dead thread", sending);
  // What is there to be read counts for `poll`, and may be older than the end.
  await round.settles("the last answers", answered);
  if (!(await round.settles("poll", near.poll(null)))) return;
  const error = await near.send(-1).then(() => undefined, (error) => error);
  if (!(error instanceof OSError)) throw error ?? new Error("It was sent");
}

/** Whoever received, it was in order: no gap, nothing twice. */
function checkMessages(
  { marks, summary, tasks }: Round,
  survived: boolean,
  answers: number[],
): void {
  const { got, put } = marks;
  let last = got.length - 1;
  // Where nobody was left to read, the rest is nobody's.
  while (!survived && last >= 0 && got[last] === 0) last--;
  const ended = tasks.some(({ fate, killed }) =>
    killed || fate.how !== "lives"
  );
  const gap = ended && !startedPortsTravel() ? "cut" : "lost";
  for (let i = 0; i <= last; i++) {
    if (got[i]! > 1) summary.doubled++;
    if (got[i] === 0) summary[gap]++;
    else summary.items++;
  }
  const seen = new Set(answers);
  summary.doubled += answers.length - seen.size;
  if (answers.some((x, i) => i > 0 && x < answers[i - 1]!)) {
    throw new Error("The answers came out of order");
  }
  // What this end closed before it had read it is nobody's either.
  if (!survived) {
    put.forEach((sent, i) => summary.lost += seen.has(i) ? 0 : sent);
  }
}

// --- All of it ---------------------------------------------------------------------

/** Runs rounds of it. */
export async function chaos(
  rounds: number,
  seed: number,
  each?: (summary: Summary) => void,
): Promise<Summary> {
  const summary: Summary = {
    rounds: 0,
    kills: 0,
    items: 0,
    moves: 0,
    lost: 0,
    doubled: 0,
    hanging: 0,
    pending: 0,
    unreported: 0,
    cut: 0,
  };
  for (let i = 0; i < rounds; i++) {
    const random = new Random(seed + i);
    const shared = i % 2 === 0;
    force.noSharedMemory = !shared;
    try {
      await queueRound(new Round(random, summary, shared, 180), 60);
      await sendRound(new Round(random, summary, shared, 400), 400);
      await moveRound(new Round(random, summary, shared, 400), 400);
    } finally {
      force.noSharedMemory = false;
    }
    const left = [...await allSettled(PATIENCE), ...callsOfEnded()];
    if (left.length > 0) console.error(`pending: ${left.join(", ")}`);
    summary.pending += left.length;
    forgetPending();
    summary.rounds++;
    each?.(summary);
  }
  return summary;
}

/** One line. */
export function line(summary: Summary): string {
  return Object.entries(summary).map(([name, n]) => `${n} ${name}`).join(", ");
}
