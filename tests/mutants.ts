// `deno task mutants`: single-line faults put into the published files, one at a time, in a copy; the named
// test files have to notice each. Arguments choose mutants by number. Ends with
// "mutants: N caught, M survived". What only browsers run (`_locks.ts`, and `keep` and its like in `_port.ts`)
// is not among them.

import { findNode, NODE_HOOK, ROOT } from "./_tools.ts";

/** A file, what stands there once, what is put in its place, and the tests that have to notice: in Deno unless told. */
type Mutant = [
  file: string,
  text: string,
  fault: string,
  tests: string,
  runtime?: "node",
];

const MUTANTS: Mutant[] = [
  // Counting and claiming.
  [
    "_words.ts",
    "GOT)) | 0) >= maxsize",
    "GOT)) | 0) > maxsize",
    "queue_model",
  ],
  [
    "_words.ts",
    "GOT)) | 0) >= maxsize",
    "GOT)) | 0) >= maxsize - 1",
    "queue_model",
  ],
  [
    "_words.ts",
    "(words, slot, id, next) === id;",
    "(words, slot, id, next) >= 0;",
    "queue_model queue_interleavings",
  ],
  ["_words.ts", "TAIL) - done) | 0) <= 0)", "TAIL) - done) | 0) < 0)", "queue"],
  [
    "_words.ts",
    "words, DONE, done, (done + 1) | 0",
    "words, DONE, done, done",
    "queue",
  ],
  // The owner.
  [
    "_core.ts",
    "if (!wait || getter.underway) this.#impatient.add(getter);",
    "if (!wait) this.#impatient.add(getter);",
    "queue_model",
  ],
  [
    "_core.ts",
    "this.#back = this.#back.concat(claimed);",
    "",
    "queue_model",
  ],
  [
    "_core.ts",
    "if (!why || this.#isLive(putter)) Atomics.sub",
    "Atomics.sub",
    "queue_model",
  ],
  [
    "_core.ts",
    "if (count > 0) Atomics.sub(this.words, TAIL, count);",
    "",
    "queue_model",
  ],
  [
    "_core.ts",
    "if (unoffered > 0) Atomics.sub(this.words, PUTS, unoffered);",
    "",
    "queue_model",
  ],
  [
    "_core.ts",
    "this.#back.sort((a, b) => (b.index - a.index) | 0);",
    "",
    "queue_model",
  ],
  [
    "_client.ts",
    "if (!words || Atomics.load(words, BELL) === 0) return;",
    "return;",
    "queue_model",
  ],
  [
    "_core.ts",
    "if (Atomics.exchange(words, BELL, 1) === 1) return;",
    "return;",
    "queue_model",
  ],
  [
    "_core.ts",
    "if (!wait || max > 1) getter.underway = this.#underway();",
    "getter.underway = undefined;",
    "queue_model",
  ],
  [
    "_core.ts",
    "if (alive && items.some",
    "if (items.some",
    "queue_model",
  ],
  [
    "_core.ts",
    "!alive || list === this.#getters",
    "list === this.#getters",
    "queue_model queue",
  ],
  [
    "_core.ts",
    "if (items.length > handle.missing) return;",
    "",
    "fuzz",
  ],
  [
    "_core.ts",
    "if (item instanceof Parcel) drop(item.message);",
    "",
    "queue_model queue",
  ],
  // The handles.
  [
    "_client.ts",
    "if (Atomics.load(words, PUTS) > 0) return false;",
    "",
    "queue_model",
  ],
  [
    "_client.ts",
    "Atomics.store(mine, LAST_RECEIVED, seq);",
    "",
    "queue_model",
  ],
  ["_client.ts", "else this.#owner.post([RECEIVED, seq]);", "", "queue_model"],
  [
    "_client.ts",
    "return this.#owner.post([GIVE_BACK, seq, parcels], transfer);",
    "return;",
    "queue_model",
  ],
  [
    "_client.ts",
    `if (ended && what === "put") Atomics.sub`,
    "if (ended && id < 0) Atomics.sub",
    "queue_model",
  ],
  ["_copies.ts", "this.#at += behind;", "this.#at += 1;", "queue_model"],
  ["_client.ts", "[CANCEL, id, late]", "[CANCEL, id]", "queue_model"],
  [
    "_client.ts",
    "this.#owner.post([FREED]); // a get may",
    "// a get may",
    "queue_model queue",
  ],
  [
    "_client.ts",
    "if (this.#running > 0) return; // it will",
    "// it will",
    "queue_model",
  ],
  [
    "_owner.ts",
    "Atomics.add(mine, POSTED, count);",
    "",
    "linearizability queue_model",
  ],
  [
    "_owner.ts",
    "if (frame[0] === SHARE) return this.#shareFrom(handle, frame);",
    "",
    "queue",
  ],
  // Connections.
  [
    "_link.ts",
    "return void this.#answer();",
    "return;",
    "connection",
  ],
  [
    "_link.ts",
    "return this.#messages < this.#window &&",
    "return this.#messages < this.#window * 2 &&",
    "connection",
  ],
  [
    "_link.ts",
    "this.#hungry < HUNGRY",
    "this.#hungry < Infinity",
    "connection",
  ],
  ["_link.ts", "this.#messages = this.#weight = 0;", "", "wire"],
  ["_link.ts", "link.#eager = true;", "", "connection"],
  [
    "_link.ts",
    "if ((this.#route.out?.posted ?? 0) > 0) this.start();",
    "",
    "moving",
  ],
  // What probes found.
  [
    "_client.ts",
    "if (state === WANTED) this.#owner.post([FREED]);",
    "",
    "queue_model",
  ],
  [
    "_core.ts",
    "Math.abs(Atomics.load(handle.words, slot)) !== id",
    "Atomics.load(handle.words, slot) !== id",
    "queue_model",
  ],
  [
    "_core.ts",
    "this.#undecided = state === -id || state === WANTED;",
    "this.#undecided = false;",
    "queue_model",
  ],
  ["_core.ts", "if (state === id) continue;", "", "queue_model"],
  [
    "_core.ts",
    'else if (!late && handle.blind) this.#takeBack(handle, "id", id);',
    "",
    "queue_model",
  ],
  [
    "_words.ts",
    "const done = Atomics.load(words, DONE);\n  return ((Atomics.load(words, TAIL) - done) | 0) <= 0;",
    "const tail = Atomics.load(words, TAIL);\n  return ((tail - Atomics.load(words, DONE)) | 0) <= 0;",
    "queue_model",
  ],
  ["_route.ts", "if (!heard) held.letGo();", "", "moving"],
  [
    "_port.ts",
    "if (!startedPortsTravel() && !this.#receiveQueued()) return;",
    "",
    "moving",
  ],
  [
    "_text.ts",
    'if ("toJSON" in Array.prototype) return frame;',
    "",
    "text",
  ],
  ["_snapshot.ts", "copyPlain(value, true)", "copyPlain(value)", "queue"],
  [
    "_core.ts",
    "if (this.#uncounted) this.#recount();",
    "",
    "queue_model",
  ],
  [
    "_core.ts",
    "if (Atomics.load(words, BUSY) !== 0) return undefined;",
    "",
    "queue_model",
  ],
  [
    "_core.ts",
    "if (Atomics.load(words, OFFERED) !== offered) return undefined;",
    "",
    "queue_interleavings",
  ],
  [
    "_core.ts",
    "if (Atomics.load(words, SHARED) !== shared) return undefined;",
    "",
    "queue_model",
  ],
  [
    "_client.ts",
    "if (!hasPlace) this.#ring();",
    "",
    "queue_model",
  ],
  [
    "_handoff.ts",
    "unposted?.register(",
    "if (!endpoints) unposted?.register(",
    "lifetime",
  ],
  [
    "_handoff.ts",
    "if (isObject(endpoints)) unposted?.unregister(endpoints);",
    "",
    "lifetime",
  ],
  [
    "_link.ts",
    "    this.#stillOpen();\n    const parcel",
    "    const parcel",
    "connection",
  ],
  ["_core.ts", "else if (this.#ended) this.end();", "", "queue_model"],
  [
    "_core.ts",
    "if (this.#counts()?.join() !== counts.join()) return;",
    "",
    "queue_interleavings",
  ],
  [
    "_core.ts",
    "if (this.#uncounted) this.changed();",
    "",
    "queue_interleavings",
  ],
  [
    "_client.ts",
    "timeout <= 0 && sizeOf(words) >= this.maxsize",
    "timeout <= 0",
    "queue_model",
  ],
  // An end that nobody held when its other side's thread ended; waits of requests; what has classes of its own.
  ["_port.ts", "port.dead = gone;", "", "moving", "node"],
  [
    "_port.ts",
    "owned.add(raw);\n  if",
    "if",
    "fuzz",
    "node",
  ],
  ["_runtime.ts", "workerThreads?.MessagePort ?? ", "", "lifetime", "node"],
  ["_link.ts", "if (link.#skips) link.start();", "", "bytes"],
  // What is weighed, and what is on its way.
  [
    "_snapshot.ts",
    'case "[object Map]":',
    "",
    "connection",
  ],
  ["_snapshot.ts", "weight += weightOf(parts[seen]);", "", "connection"],
  [
    "_snapshot.ts",
    "return isCount(weight) ? Math.min(weight, MOST_WEIGHT) : 0;",
    "return weight;",
    "text",
  ],
  ["_core.ts", "if (this.#isShared()) return UNKNOWN;", "", "queue_model"],
  ["_client.ts", "if (call.leaves) throw", "if (call.givenUp) throw", "queue"],
  ["_client.ts", "waiting.reverse()", "waiting", "queue_model"],
  [
    "_client.ts",
    'what === "get" ? !this.#words && !late : what !== "put"',
    'what !== "get" && what !== "put"',
    "queue_model",
  ],
  [
    "_core.ts",
    "this.#put(handle, [text ? a : new Odd(a)], c);\n        break;",
    "return this.#put(handle, [text ? a : new Odd(a)], c);",
    "queue",
  ],
  // A shutdown in the midst of a put.
  [
    "_client.ts",
    'else if (Atomics.load(words, STATE) !== OPEN) {\n      this.#leavePlace();\n      throw refusal("put", "shutdown");\n    }\n    return',
    "return",
    "queue_interleavings",
  ],
  [
    "_words.ts",
    "while (Atomics.load(words, STATE) !== DROPPED) {",
    "while (true) {",
    "queue_model",
  ],
  // put_many lines up at once.
  [
    "_client.ts",
    "if (call.batch) this.#giveUpAll(call.batch, error, true);",
    "",
    "queue",
  ],
  ["_client.ts", "if (call.leaves) throw call.reason;", "", "queue"],
  [
    "_core.ts",
    "// It may have been all that was missing.\n    if (handle.closed) this.#confirmClose(handle);",
    "",
    "queue",
  ],
  [
    "_route.ts",
    "if (ours >= this.moves[0])",
    "if (ours > this.moves[0])",
    "moving",
  ],
  [
    "_link.ts",
    "if (through === this.#pipe)",
    "if (through === this.#pipe + 1)",
    "moving",
  ],
  ["_route.ts", "if (this.#missed) {", "if (false) {", "wire"],
  [
    "_route.ts",
    "this.#missed = true;\n      this.#next(port);",
    "this.#next(port);",
    "wire",
  ],
  ["_route.ts", "to.post([CUT]);", "", "moving"],
  [
    "_link.ts",
    "this.#dropInbox();\n    this.#forgive();",
    "this.#dropInbox();",
    "bytes",
  ],
  [
    "_link.ts",
    "return !this.#route.out ||",
    "return",
    "moving",
  ],
  ["_link.ts", "if (frame[0] === PARCEL) drop(frame[1]);", "", "moving"],
  [
    "_link.ts",
    "this.#tellTaken();\n    const sibling",
    "const sibling",
    "moving connection",
  ],
  // Messages.
  [
    "_outbox.ts",
    "if (this.#values.length > 0) this.flush();",
    "",
    "bytes connection moving",
  ],
  [
    "_outbox.ts",
    "bytes[start + 1] = length >> 8;",
    "bytes[start + 1] = 0;",
    "bytes",
  ],
  [
    "_inbox.ts",
    "return at > 0 && at === bytes.length;",
    "return at > 0;",
    "wire",
  ],
  [
    "_inbox.ts",
    "if (length > bytes.length - at - 4) return false;",
    "",
    "wire fuzz",
  ],
  [
    "_snapshot.ts",
    "count === MOST_OBJECTS || isProxy(value)",
    "count === MOST_OBJECTS",
    "connection text",
  ],
  [
    "_snapshot.ts",
    `if (value !== null && typeof value !== "boolean") odd = ODD;`,
    "",
    "text",
  ],
  [
    "_snapshot.ts",
    "odd = ODD; // JSON knows no identity",
    "",
    "text",
  ],
  [
    "_snapshot.ts",
    "1 / value < 0) odd = ODD",
    "1 / value < 0) odd = 0",
    "text",
  ],
  [
    "_core.ts",
    "endSlot(words, slot, id, -id);",
    "true;",
    "queue_model queue_interleavings",
  ],
  [
    "_core.ts",
    "this.#put(handle, [text ? a : new Odd(a)], c);",
    "this.#put(handle, [a], c);",
    "queue",
  ],
  [
    "_handoff.ts",
    "draft.check(through);",
    "",
    "moving",
  ],
  // Waiting, threads, ports.
  ["_waiters.ts", "this.#deafen?.();", "", "connection queue poll_wait"],
  ["_waiters.ts", "this.#disarm?.();", "", "poll_wait"],
  ["_waiters.ts", "this.list?.remove(this);", "", "connection"],
  [
    "_runtime.ts",
    "if (--holds > 0) return;",
    "if (--holds > 1) return;",
    "lifetime",
  ],
  [
    "_port.ts",
    "} else if (this.dead) {",
    "} else if (this.dead && !this.dead) {",
    "moving",
  ],
  [
    "_port.ts",
    "&& watch.received === twin.posted;",
    ";",
    "moving",
  ],
  [
    "_port.ts",
    "twin.watch.received === posted &&",
    "",
    "connection",
  ],
  [
    "_port.ts",
    `if (closeEvents()) raw.addEventListener("close", this.lost);`,
    "",
    "lifetime",
  ],
  [
    "connection.ts",
    "most < message.length ?",
    "most <= message.length ?",
    "bytes",
  ],
  [
    "connection.ts",
    "if (length > room)",
    "if (length >= room)",
    "bytes",
  ],
  // Arguments, and what only looks like something else.
  [
    "_arguments.ts",
    'typeof signal.addEventListener !== "function" ||',
    "",
    "connection",
  ],
  [
    "connection.ts",
    "Object.getPrototypeOf(buffer ?? 0) === Uint8Array.prototype &&",
    "buffer instanceof Uint8Array &&",
    "bytes",
  ],
  [
    "_snapshot.ts",
    'toString.call(value) === "[object Object]"',
    "true",
    "connection",
  ],
  [
    "_snapshot.ts",
    "value.byteLength >>> 0;",
    "value.byteLength;",
    "connection",
  ],
  [
    "queue.ts",
    'optionsOf(options, "shut down");',
    "options ?? {}; void optionsOf;",
    "queue",
  ],
  // Waiting, and the order of refusals.
  [
    "connection.ts",
    "else waiter.settle(ready());",
    "else waiter.settle(connections);",
    "poll_wait",
  ],
  [
    "connection.ts",
    "for (const link of links) link.unwatch(look);",
    "",
    "lifetime",
  ],
  [
    "connection.ts",
    "await settle(links); // a timer",
    "// a timer",
    "poll_wait",
  ],
  [
    "_link.ts",
    "if (!transfer?.length) prepare(value, undefined, this.#pipe);",
    "",
    "connection moving",
  ],
  // put_many: as it was at the call.
  [
    "_client.ts",
    "lineUp([], prepare(item, undefined));",
    "lineUp([item]);",
    "queue",
  ],
  [
    "_client.ts",
    "const list = listOf(items);",
    "const list = Array.isArray(items) ? items : undefined;",
    "queue",
  ],
  // Node refuses ports whose other side is gone.
  [
    "_port.ts",
    "replaceLost(frame, transfer);",
    "",
    "moving",
    "node",
  ],
  [
    "_port.ts",
    "if (port) (holder as Record<string, unknown>)[key] = port;",
    "",
    "moving",
    "node",
  ],
  [
    "_link.ts",
    "return movable(descriptor, portsOf(descriptor));",
    "",
    "moving",
    "node",
  ],
  // What only other threads, a garbage collector, or a forger bring about.
  ["_core.ts", "if (live && !found) return;", "", "queue_model"],
  [
    "_core.ts",
    "held!.length !== parcels.length",
    "held!.length < 0",
    "fuzz",
  ],
  ["_client.ts", "if (call.givenUp && !ended) return;", "", "queue_model"],
  [
    "_client.ts",
    "if (this.#calls.size > 0 || this.#running > 0) return;",
    "if (this.#running > 0) return;",
    "queue_model",
  ],
  ["_waiters.ts", 'if (signal?.aborted) return giveUp("abort");', "", "queue"],
  [
    "_route.ts",
    "if (this.#sources.length === 0) this.#sources.push(this.out!);",
    "",
    "moving",
  ],
  [
    "_port.ts",
    "if (!this.open) scrap(data);",
    "if (!this.open);",
    "endpoint",
  ],
  ["_runtime.ts", "timer = left > FOREVER", "timer = left < 0", "poll_wait"],
  [
    "_port.ts",
    "return this.lost(); // as `messageerror`",
    "return;",
    "endpoint",
    "node",
  ],
  [
    "_port.ts",
    "this.#receive(message);",
    "",
    "endpoint",
    "node",
  ],
  ["_snapshot.ts", "if (polluted()) return NOT_PLAIN;", "", "text"],
  // Between two words.
  [
    "_core.ts",
    "#refuse(): void {\n    if (this.#undecided) return;",
    "#refuse(): void {",
    "queue_torn",
  ],
  [
    "_core.ts",
    "if (this.#uncounted && !handle.local) this.changed();",
    "if (this.#uncounted) this.changed();",
    "queue_torn",
  ],
  [
    "_core.ts",
    "if (this.#uncounted) this.changed();\n    else this.#admit();",
    "this.#admit();",
    "queue_torn",
  ],
  [
    "_core.ts",
    "else if (unoffered > 0) Atomics.sub",
    "if (unoffered > 0) Atomics.sub",
    "queue_torn",
  ],
  [
    "_core.ts",
    "counts[next++]! - handle.arrived",
    "missing(handle)",
    "queue_torn",
  ],
  [
    "_core.ts",
    "if (getter.underway === UNKNOWN) getter.underway = this.#underway();",
    "",
    "queue_torn",
  ],
  [
    "_handle.ts",
    "copied > 0 && copied <= MOST_WINDOW",
    "copied > 0",
    "queue_torn",
  ],
  [
    "_client.ts",
    'for (const { what } of this.#calls.values()) if (what === "put") return;',
    "",
    "queue",
  ],
  [
    "_client.ts",
    "if (this.#flushed && (ended ||",
    "if ((ended ||",
    "queue",
    "node",
  ],
  ["_port.ts", "this.open && !pause", "this.open", "queue_threads", "node"],
  [
    "_port.ts",
    "!isPlain(holder)",
    "Object.getPrototypeOf(holder) !== Object.prototype",
    "moving",
    "node",
  ],
  ["_core.ts", "if (!this.#waits(putter)) {", "if (0) {", "queue_model"],
  [
    "_iterate.ts",
    "stop.abort();\n      return end",
    "return end",
    "connection",
  ],
  ["_arguments.ts", ' || "aborted" in value', "", "rejections"],
  [
    "_link.ts",
    "for (const look of this.#watchers) look(why);",
    "",
    "poll_wait",
  ],
  ["_route.ts", "this.out!.post([CUT]);", "", "wire"],
  [
    "_route.ts",
    "if (this.#sources.includes(this.out!)) {\n      if",
    "{\n      if",
    "wire",
  ],
  ["_link.ts", "if (this.#hasRoom()) return DONE;", "", "moving"],
  [
    "_handoff.ts",
    "restore(copies, places.map(([holder]) => holder));",
    "",
    "moving",
  ],
  // What nothing noticed when statements were taken out one by one.
  ["_client.ts", "timeout > 0 && left() === 0", "left() === 0", "queue"],
  [
    "_client.ts",
    "if (this.#abandoned) return this.abandon();",
    "if (this.#abandoned) return this.#closePort();",
    "queue_model",
  ],
  [
    "_client.ts",
    "? [...items]",
    "? Array.isArray(items) ? items : [...items]",
    "queue",
  ],
  ["_core.ts", "handle.blind || handle.local", "handle.blind", "queue_model"],
  ["_core.ts", "if (handle.local) handle.trim();", "", "queue_model"],
  [
    "_link.ts",
    "this.#eager = true; // its first send",
    "// its first send",
    "connection",
  ],
  [
    "_link.ts",
    "this.#tellTaken();\n    const { out }",
    "const { out }",
    "connection",
  ],
  ["_link.ts", "if (open.length > 1) link.#sibling?.start();", "", "moving"],
  ["connection.ts", "if (length > 0) message", "message", "bytes"],
];

const MINUTES = 3;

const map = ["--import-map", "tests/std/import_map.json"];

/** What runs test files, with its arguments. */
const runners: Record<string, () => Promise<[string, string[]]>> = {
  deno: () =>
    Promise.resolve([
      Deno.execPath(),
      ["test", "-A", "--no-check", "--fail-fast", ...map],
    ]),
  async node() {
    const [node, first] = await findNode();
    return [node, [...first, ...NODE_HOOK, "--test", "--test-force-exit"]];
  },
};

/** Runs tests of the copy; whether they pass. */
async function passes(
  folder: string,
  tests: string,
  runtime: string,
): Promise<boolean> {
  const files = tests.split(" ").map((name) => `tests/${name}_test.ts`);
  const [command, args] = await runners[runtime]!();
  const { success } = await new Deno.Command(command, {
    args: [...args, ...files],
    cwd: folder,
    stdin: "null",
    stdout: "null",
    stderr: "null",
    signal: AbortSignal.timeout(MINUTES * 60_000),
  }).output();
  return success;
}

async function copyTo(folder: string): Promise<void> {
  const list = await new Deno.Command("git", { args: ["ls-files"], cwd: ROOT })
    .output();
  for (const name of new TextDecoder().decode(list.stdout).trim().split("\n")) {
    const path = `${folder}/${name}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await Deno.copyFile(`${ROOT}/${name}`, path);
  }
}

// All of them have to fit before the first is run.
for (const [file, text] of MUTANTS) {
  const times = (await Deno.readTextFile(`${ROOT}/${file}`)).split(text).length;
  if (times !== 2) {
    throw new Error(`${file} has ${times - 1} times, not once: ${text}`);
  }
}
const folder = await Deno.makeTempDir();
await copyTo(folder);
let caught = 0;
const survived: number[] = [];
const chosen = Deno.args.map(Number);
for (const [i, mutant] of MUTANTS.entries()) {
  const [file, text, fault, tests, runtime = "deno"] = mutant;
  if (chosen.length > 0 && !chosen.includes(i + 1)) continue;
  const source = await Deno.readTextFile(`${ROOT}/${file}`);
  const faulty = source.split(text).join(fault);
  await Deno.writeTextFile(`${folder}/${file}`, faulty);
  const begun = performance.now();
  const alive = await passes(folder, tests, runtime);
  await Deno.writeTextFile(`${folder}/${file}`, source);
  if (alive) survived.push(i + 1);
  else caught++;
  const seconds = Math.round((performance.now() - begun) / 1000);
  const how = alive ? "SURVIVED" : "caught";
  console.log(`${i + 1} ${how} (${seconds} s) ${file}: ${text} → ${fault}`);
}
await Deno.remove(folder, { recursive: true });
console.log(`mutants: ${caught} caught, ${survived.length} survived`);
Deno.exit(survived.length > 0 ? 1 : 0);
