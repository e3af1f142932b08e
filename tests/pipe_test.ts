import { assert, assertEquals, assertRejects } from "@std/assert";
import { spawnTask, test } from "./_harness.ts";
import {
  BrokenPipeError,
  Connection,
  EOFError,
  OSError,
  Pipe,
} from "../mod.ts";

const tasks = new URL("./workers/pipe_tasks.ts", import.meta.url);

test("Connection sends and receives in one thread", async () => {
  const [a, b] = Pipe<unknown>();
  await a.send({ x: 1 });
  await a.send("two");
  assertEquals(await b.recv(), { x: 1 });
  assertEquals(await b.recv(), "two");
  for (let i = 0; i < 1000; i++) a.send({ i, nested: [i] });
  for (let i = 0; i < 1000; i++) {
    assertEquals(await b.recv(), { i, nested: [i] });
  }
  a.close();
  await assertRejects(() => b.recv(), EOFError);
  await assertRejects(() => b.send(1), BrokenPipeError);
  await assertRejects(() => a.send(1), OSError, "handle is closed");
  b.close();
});

test("Connection echoes through a worker", async () => {
  const [a, b] = Pipe<unknown>();
  const run = spawnTask("echo", { conn: b }, { module: tasks });
  assert(b.closed);
  for (let i = 0; i < 100; i++) {
    await a.send(i);
    assertEquals(await a.recv(), i);
  }
  a.close();
  assertEquals(await run.result, "EOF");
});

test("Connection reads what a worker sent that ended without closing", async () => {
  const [a, b] = Pipe<unknown>();
  const run = spawnTask("count", { conn: b, to: 50 }, { module: tasks });
  const got: unknown[] = [];
  for await (const x of a) got.push(x);
  assertEquals(got, Array.from({ length: 50 }, (_, i) => i));
  await run.result;
  a.close();
});

test("Connection moves through a chain while the peer sends", async () => {
  const [a, b] = Pipe<unknown>();
  let next = 0;
  for (; next < 5; next++) await a.send(next);
  assertEquals(await b.recv(), 0); // in use
  assertEquals(await b.recv(), 1);
  const [c, d] = Pipe<{ conn: Connection<unknown> }>();
  const [e, f] = Pipe<{ conn: Connection<unknown> }>();
  const relay = spawnTask("relay", { conn: b, via: d }, { module: tasks });
  for (; next < 50; next++) await a.send(next);
  const { conn } = await c.recv();
  assertEquals(await conn.recv(), 2);
  for (; next < 80; next++) await a.send(next);
  const relay2 = spawnTask("relay", { conn, via: f }, { module: tasks });
  for (; next < 100; next++) await a.send(next);
  const last = (await e.recv()).conn;
  a.close();
  const got: unknown[] = [];
  for await (const x of last) got.push(x);
  assertEquals(got, Array.from({ length: 97 }, (_, i) => i + 3));
  await relay.result;
  await relay2.result;
  for (const x of [c, e, last]) x.close();
});

test("Connection is not cloneable by itself", () => {
  const [a, b] = Pipe();
  let name = "";
  try {
    structuredClone(a);
  } catch (error) {
    name = (error as Error).name;
  }
  assertEquals(name, "DataCloneError");
  a.close();
  b.close();
});

test("Connection.poll counts what has been delivered", async () => {
  const [a, b] = Pipe<unknown>();
  assertEquals(await b.poll(), false);
  await a.send(1);
  assertEquals(await b.poll(), true);
  assertEquals(await b.recv(), 1);
  assertEquals(await b.poll(1), false);
  a.close();
  assertEquals(await b.poll(), true);
  b.close();
});

test("Connection.send resolves on a fresh end whose peer reads and closes", async () => {
  const [a, b] = Pipe<unknown>();
  const run = spawnTask("answer_once", { conn: b }, { module: tasks });
  for (let i = 0; i < 200; i++) {
    const [answer, reply] = Pipe<unknown>(false);
    await a.send({ reply });
    assertEquals(await answer.recv(), 1);
    answer.close();
  }
  a.close();
  await run.result;
});
