/// <reference lib="dom" />
// A worker: takes a tile, says so, draws it, answers. Until it is told to stop.

import { type Connection, Empty, type Queue, unpack } from "../../mod.ts";
import { drawRow, SIDE, type Tile } from "./mandelbrot.ts";

/** What a worker is started with. */
export interface Args {
  name: number;
  tiles: Queue<Tile>;
  results: Queue<Result>;
  page: Connection<"stop", Word>;
}

/** What it tells the page: which tile it has taken, or that there was none for a while. */
export type Word = { took: Tile } | "idle";

/** A tile that is done. */
export interface Result {
  by: number;
  tile: Tile;
  pixels: Uint8ClampedArray<ArrayBuffer>;
}

const IDLE_MS = 250;

self.onmessage = async ({ data }: MessageEvent) => {
  const { name, tiles, results, page } = unpack<Args>(data);
  await page.send("idle");

  // Anything that can be read here is the page's "stop", or its end.
  while (!(await page.poll())) {
    let tile: Tile;
    try {
      tile = await tiles.get({ timeout: IDLE_MS });
    } catch (error) {
      if (!(error instanceof Empty)) throw error;
      await page.send("idle");
      continue;
    }
    await page.send({ took: tile });
    const pixels = new Uint8ClampedArray(SIDE * SIDE * 4);
    for (let y = 0; y < SIDE; y++) {
      drawRow(tile, y, pixels);
      await page.poll(); // takes a turn of the event loop: here it can be killed
    }
    await results.put({ by: name, tile, pixels }, {
      transfer: [pixels.buffer],
    });
  }

  tiles.close();
  results.close();
  await results.join_thread(); // the page has the last tile, before it reads:
  page.close(); // end of file, as it does when this worker is killed
  self.close();
};
