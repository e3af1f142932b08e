// The picture: a part of the Mandelbrot set, drawn tile by tile, each row for itself.

/** The picture is this many tiles wide, and this many high. */
export const COLUMNS = 16;
export const ROWS = 10;
/** Pixels along each side of a tile. */
export const SIDE = 60;

/** One item of work. */
export interface Tile {
  id: number;
  /** Which part of the set. */
  view: number;
  /** Samples along each side of a pixel: the picture's quality, and its price. */
  detail: number;
}

/** The parts of the set that are worth a look: centre, and width. */
export const VIEWS: [x: number, y: number, width: number][] = [
  [-0.7445, 0.1155, 0.026],
  [-0.1015, 0.9563, 0.022],
  [-1.2565, 0.3811, 0.012],
];

const MOST_STEPS = 1500;
/** Sixteen is enough for the shades to be smooth. */
const FAR = 16 * 16;

/** All tiles of a picture, from the middle outwards. */
export function tilesOf(view: number, detail: number): Tile[] {
  const distance = ({ id }: Tile) =>
    Math.hypot(
      id % COLUMNS - (COLUMNS - 1) / 2,
      Math.floor(id / COLUMNS) - (ROWS - 1) / 2,
    );
  return Array.from({ length: COLUMNS * ROWS }, (_, id) => ({
    id,
    view,
    detail,
  })).sort((a, b) => distance(a) - distance(b));
}

/** Where a tile belongs. */
export function placeOf(id: number): [x: number, y: number] {
  return [id % COLUMNS * SIDE, Math.floor(id / COLUMNS) * SIDE];
}

/** Draws row `y` of a tile into its pixels, four bytes each. */
export function drawRow(
  { id, view, detail }: Tile,
  y: number,
  pixels: Uint8ClampedArray,
): void {
  const [x0, y0, width] = VIEWS[view % VIEWS.length]!;
  const [left, top] = placeOf(id);
  const pixel = width / (COLUMNS * SIDE);
  for (let x = 0; x < SIDE; x++) {
    let red = 0, green = 0, blue = 0;
    for (let sample = 0; sample < detail * detail; sample++) {
      const dx = (sample % detail + 0.5) / detail;
      const dy = (Math.floor(sample / detail) + 0.5) / detail;
      const steps = escape(
        x0 + (left + x + dx - COLUMNS * SIDE / 2) * pixel,
        y0 - (top + y + dy - ROWS * SIDE / 2) * pixel,
      );
      const [r, g, b] = shade(steps);
      red += r, green += g, blue += b;
    }
    const samples = detail * detail;
    pixels.set(
      [red / samples, green / samples, blue / samples, 255],
      (y * SIDE + x) * 4,
    );
  }
}

/** After how many steps, with a fraction, a point is far away; `Infinity`: it stays. */
function escape(cx: number, cy: number): number {
  let x = 0, y = 0, xx = 0, yy = 0;
  for (let step = 0; step < MOST_STEPS; step++) {
    y = 2 * x * y + cy;
    x = xx - yy + cx;
    xx = x * x;
    yy = y * y;
    if (xx + yy > FAR) return step + 1 - Math.log2(Math.log2(xx + yy) / 2);
  }
  return Infinity;
}

/** From midnight blue over teal to amber, round and round. */
function shade(steps: number): [number, number, number] {
  if (steps === Infinity) return [10, 12, 26];
  const turn = Math.sqrt(steps) * 0.9;
  return [
    132 + 118 * Math.sin(turn - 2.1),
    124 + 96 * Math.sin(turn - 1.4),
    128 + 92 * Math.sin(turn - 0.4),
  ];
}
