// A program in which the global classes are not the platform's own, as test environments have it (jsdom, happy-dom).

// deno-lint-ignore no-explicit-any
type Any = any;

const { process } = globalThis as Any;
const vm = process.getBuiltinModule("node:vm");
const [ArrayBuffer, Uint8Array] = vm.runInNewContext(
  "[ArrayBuffer, Uint8Array]",
);
const classes: Record<string, object> = {
  jsdom: { ArrayBuffer, Uint8Array },
  "happy-dom": { MessagePort: class MessagePort {} },
};
Object.assign(globalThis, classes[process.argv[2]]);

const { Pipe } = await import("../../mod.ts");
const [a, b] = Pipe<Any>();
const [c, d] = Pipe<Any>();
await a.send({ c });
const { c: moved } = await b.recv();
for (const size of [10, 9000, 100_000]) {
  await d.send_bytes(new globalThis.Uint8Array(size).fill(size));
  const got = await moved.recv_bytes();
  if (got.length !== size || got[size - 1] !== size % 256) throw new Error();
  await d.send({ buffer: got.buffer });
  if ((await moved.recv()).buffer.byteLength !== size) throw new Error();
}
for (const end of [a, b, moved, d]) end.close();
process.stdout.write("end\n");
