/// <reference lib="dom" />
// A worker of the web page that takes a tile, and ends before it has said so.

import { unpack } from "../../mod.ts";
import type { Args } from "../../examples/web/worker.ts";

self.onmessage = async ({ data }: MessageEvent) => {
  const { tiles, page } = unpack<Args>(data);
  await page.send("idle");
  await tiles.get();
  self.close();
};
