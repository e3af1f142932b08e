// A large file streamed to a worker in chunks of 64 KiB, and its SHA-256 computed there.
// Argument: the size of the file in MiB (default 128).

import { createHash, randomFillSync } from "node:crypto";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { Pipe } from "../../mod.ts";
import { start } from "../_worker.ts";

const MIB = 1024 * 1024;
const CHUNK = 64 * 1024;
const size = Number(process.argv[2] ?? 128);

const folder = await mkdtemp(join(tmpdir(), "hash_stream-"));
try {
  const path = join(folder, "data.bin");
  await makeFile(path);
  await hash(path);
} finally {
  await rm(folder, { recursive: true });
}

/** Streams the file to a worker and compares the digest made there with one made here. */
async function hash(path: string): Promise<void> {
  const [reader, writer] = Pipe(false);
  const [answer, reply] = Pipe<string>(false);
  const worker = start(new URL("./worker.ts", import.meta.url), {
    reader,
    reply,
    chunk: CHUNK,
  });
  await answer.recv(); // "ready": from here on memory is compared

  const here = createHash("sha256");
  const before = process.memoryUsage.rss();
  let most = before;
  const file = await open(path);
  const buffer = new Uint8Array(CHUNK);
  for (let at = 0;;) {
    const { bytesRead } = await file.read(buffer, 0, CHUNK, at);
    if (bytesRead === 0) break;
    here.update(buffer.subarray(0, bytesRead));
    // Waits while the worker has 4 MiB unread: the file is never in memory.
    await writer.send_bytes(buffer, 0, bytesRead);
    at += bytesRead;
    if (at % MIB === 0) most = Math.max(most, process.memoryUsage.rss());
  }
  await file.close();
  writer.close(); // end of file

  const there = await answer.recv();
  answer.close();
  await worker.join();
  most = Math.max(most, process.memoryUsage.rss());

  const digest = here.digest("hex");
  console.log(`here:   ${digest}`);
  console.log(`worker: ${there}`);
  console.log(there === digest ? "the same" : "NOT THE SAME");
  const grown = Math.ceil((most - before) / MIB);
  console.log(`${size} MiB streamed, memory grew by ${grown} MiB`);
  if (there !== digest) process.exitCode = 1;
}

/** Random bytes, different in every MiB. */
async function makeFile(path: string): Promise<void> {
  const file = await open(path, "w");
  const block = randomFillSync(new Uint8Array(MIB));
  for (let i = 0; i < size; i++) {
    new DataView(block.buffer).setUint32(0, i);
    await file.write(block);
  }
  await file.close();
}
