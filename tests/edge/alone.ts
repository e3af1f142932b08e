// In Node, which then passes for an edge runtime: the part of the suite that one isolate can run. For coverage,
// which the real ones do not tell. Arguments: `workerd`, whose channels transfer nothing, or `edge`, which has
// none; test files.

interface Host {
  EdgeRuntime?: string;
  MessageChannel?: unknown;
  MessagePort?: unknown;
  FinalizationRegistry?: unknown;
  WeakRef?: unknown;
  crypto: { getRandomValues(words: unknown): unknown };
  process: { argv: string[]; exitCode?: number; getBuiltinModule?: unknown };
}

const host = globalThis as unknown as Host;
const [kind, ...files] = host.process.argv.slice(2);

function refuse(): never {
  throw new Error("Not here");
}

host.EdgeRuntime = kind!;
delete host.process.getBuiltinModule;
if (kind === "edge") {
  delete host.MessageChannel;
  delete host.MessagePort;
} else {
  const { postMessage } = MessagePort.prototype;
  MessagePort.prototype.postMessage = function (
    message: unknown,
    list?: unknown,
  ) {
    if (list) refuse();
    postMessage.call(this, message);
  };
  // Its older versions.
  delete host.FinalizationRegistry;
  delete host.WeakRef;
  host.crypto.getRandomValues = refuse;
}

const { registry } = await import("../_harness.ts");
const { execute } = await import("../_execute.ts");
for (const file of files) {
  await import(new URL(`../${file}`, import.meta.url).href);
}
let failed = 0;
for (const test of registry) {
  const { name, error } = await execute(test);
  if (error !== undefined) {
    failed++;
    console.error(`✗ ${name}\n${error}`);
  }
}
console.log(`${kind}: ${registry.length - failed} passed, ${failed} failed`);
host.process.exitCode = failed > 0 ? 1 : 0;
