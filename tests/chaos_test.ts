import { assertEquals } from "@std/assert";
import { chaos, line } from "./_chaos.ts";
import { scale, seed, test } from "./_harness.ts";

test(
  "nothing is lost, doubled or left hanging when workers end at any moment",
  async () => {
    const summary = await chaos(scale(4), seed());
    console.log(line(summary));
    const { lost, doubled, hanging, pending } = summary;
    assertEquals(
      [lost, doubled, hanging, pending],
      [0, 0, 0, 0],
      line(summary),
    );
  },
  { deadline: 180_000, needs: ["workers", "shared", "fatal errors"] },
);
