import { assertEquals } from "@std/assert";
import { runChild } from "./_child.ts";
import { test } from "./_harness.ts";

test(
  "memory, ports, holds, listeners and calls stay what they are, however much is done",
  async () => {
    const soak = new URL("./soak.ts", import.meta.url);
    const output = await runChild(soak, ["short"], {
      gc: true,
      patience: 120_000,
    });
    const [last = ""] = output.trim().split("\n").slice(-1);
    console.log(last);
    const none = ", 0 ports, 0 holds, 0 listeners, 0 calls left";
    assertEquals(last.slice(-none.length), none);
  },
  { needs: ["processes"], deadline: 130_000 },
);
