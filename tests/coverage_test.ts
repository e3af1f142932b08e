// What `deno task coverage` makes of the counts of several threads.

import { assertEquals } from "@std/assert";
import { Covered } from "./_covered.ts";
import { test } from "./_harness.ts";

const TEXT = `function f(a) {
  if (a) return 1;
  // Nothing here counts.
  return a ?? 2;
}
f();
`;

/** What V8 tells when the stretches did not run. */
function script(...never: string[]) {
  const range = (text: string, count: number) => {
    const startOffset = TEXT.indexOf(text);
    return { startOffset, endOffset: startOffset + text.length, count };
  };
  const f = TEXT.slice(0, TEXT.indexOf("f();"));
  const ranges = [range(f, 1), ...never.map((text) => range(text, 0))];
  return { url: "", functions: [{ ranges: [range(TEXT, 1)] }, { ranges }] };
}

const THEN = "return 1;";
const AFTER = TEXT.slice(TEXT.indexOf("\n  //"), TEXT.indexOf("}"));
const ELSE = "?? 2";

test("Covered tells what has run in none of the threads", () => {
  const covered = new Covered(TEXT);
  const missed = () =>
    covered.missed().map(({ start, end }) => TEXT.slice(start, end).trim());
  covered.add(script(AFTER));
  assertEquals(missed(), ["return a ?? 2;"]);
  assertEquals(covered.lines(), { reached: 3, all: 4 });
  assertEquals(covered.branches(), { reached: 1, all: 2 });
  covered.add(script(THEN, ELSE));
  assertEquals(missed(), [ELSE]);
  assertEquals(covered.lines(), { reached: 4, all: 4 });
  assertEquals(covered.branches(), { reached: 3, all: 4 });
  covered.add(script(THEN));
  assertEquals(missed(), []);
});
