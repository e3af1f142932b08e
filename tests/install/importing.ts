// Importing the module never throws: with nothing but the language, with any one global missing, and in a
// browser's worker that may use no locks.

import vm from "node:vm";
import { bundleOne } from "../_bundle.ts";
import type { Report } from "../_report.ts";

const EXPORTS = [
  "BrokenPipeError",
  "BufferTooShort",
  "Connection",
  "EOFError",
  "Empty",
  "Full",
  "JoinableQueue",
  "OSError",
  "Pipe",
  "Queue",
  "ShutDown",
  "pack",
  "unpack",
  "wait",
];

/** What the web platform and Node add to the language, as far as the module may look at it. */
const HOST = [
  "AbortController",
  "AbortSignal",
  "DOMException",
  "Event",
  "EventTarget",
  "MessageChannel",
  "MessagePort",
  "WorkerGlobalScope",
  "clearTimeout",
  "crypto",
  "navigator",
  "origin",
  "performance",
  "process",
  "queueMicrotask",
  "setImmediate",
  "setTimeout",
  "structuredClone",
];

/** Imports the bundle in a realm of its own; returns what it exports. */
function exportsIn(code: string, context: vm.Context): string {
  vm.runInContext(`${code}\nvar names = Object.keys(module).sort();`, context);
  return vm.runInContext("names.join()", context);
}

function host(): Record<string, unknown> {
  const globals = globalThis as unknown as Record<string, unknown>;
  const given = HOST.filter((name) => globals[name] !== undefined);
  return Object.fromEntries(given.map((name) => [name, globals[name]]));
}

/** Adds an outcome for each surrounding. */
export async function checkImporting(report: Report): Promise<void> {
  const code = await bundleOne('export * from "../mod.ts";', {
    format: "iife",
    globalName: "module",
  });
  const check = (name: string, make: () => vm.Context, missing = "") => {
    const begun = performance.now();
    try {
      const context = make();
      if (missing && vm.runInContext(`"${missing}" in globalThis`, context)) {
        throw new Error(`${missing} is there`);
      }
      const names = exportsIn(code, context);
      if (names !== EXPORTS.join()) throw new Error(`It exports ${names}`);
      report.add("import", { name, ms: performance.now() - begun });
    } catch (error) {
      report.add("import", { name, error: String(error) });
    }
  };
  const bare = () => vm.createContext({});
  check("importing with nothing but the language", bare);
  check("importing with what the host has", () => vm.createContext(host()));
  check("importing in a worker of a page that may use no locks", () => {
    const request = () => {
      throw new DOMException("Not here", "SecurityError");
    };
    const browser = {
      WorkerGlobalScope: Object,
      navigator: { locks: { request } },
    };
    return vm.createContext({ ...host(), process: undefined, ...browser });
  });
  for (const name of [...HOST, ...vm.runInContext(OWN, bare()).split(" ")]) {
    check(`importing without ${name}`, () => {
      const context = vm.createContext(host());
      vm.runInContext(`delete globalThis.${name}`, context);
      return context;
    }, name);
  }
}

/** The globals of the language itself, but those without which there is none. */
const OWN = `Object.getOwnPropertyNames(globalThis).filter((name) =>
  /^[A-Z]/.test(name) &&
  !["Array", "Error", "Function", "Map", "Object", "Promise", "RangeError", "Set", "String",
    "Symbol", "WeakMap", "WeakSet", "Infinity", "NaN"].includes(name)
).join(" ")`;
