// What of a text has been run, from what V8 counts: the same in Deno, Node, Chromium and workerd.

/** What V8 tells of one script in one thread. */
export interface Script {
  url: string;
  functions: {
    ranges: { startOffset: number; endOffset: number; count: number }[];
  }[];
}

/** A stretch of code that never ran. */
export interface Stretch {
  start: number;
  end: number;
}

/** A count, and of how many. */
export interface Share {
  reached: number;
  all: number;
}

const COMMENT = /^\s*(\/\/|\/\*|\*\/|\*( |$))/;

/** The code of a text without types, as long as it is: without comments, blank space and closing brackets. */
function codeOf(text: string): boolean[] {
  const code: boolean[] = [];
  for (const line of text.split(/(?<=\n)/)) {
    const counts = !COMMENT.test(line);
    for (const char of line) code.push(counts && !/[\s(){}\[\];,]/.test(char));
  }
  return code;
}

/** One file, and what of it has been run anywhere. */
export class Covered {
  readonly #text: string;
  readonly #code: boolean[];
  readonly #run: Uint8Array;
  readonly #branches: Set<number> = new Set();

  /** @param text The file, with blanks for its types. */
  constructor(text: string) {
    this.#text = text;
    this.#code = codeOf(text);
    this.#run = new Uint8Array(text.length);
  }

  /** Adds what one thread has run. */
  add({ functions }: Script): void {
    const here = new Uint8Array(this.#text.length);
    for (const { ranges } of functions) {
      for (const { startOffset, endOffset, count } of ranges) { // from outside in
        here.fill(count > 0 ? 1 : 0, startOffset, endOffset);
        this.#branches.add(startOffset);
      }
    }
    for (let i = 0; i < here.length; i++) this.#run[i]! |= here[i]!;
  }

  /** Lines that hold code. */
  lines(): Share {
    const share = { reached: 0, all: 0 };
    let at = 0;
    for (const { length } of this.#text.split(/(?<=\n)/)) {
      let some = false;
      let reached = false;
      for (let i = at; i < at + length; i++) {
        if (!this.#code[i]) continue;
        some = true;
        if (this.#run[i]) reached = true;
      }
      if (some) share.all++;
      if (reached) share.reached++;
      at += length;
    }
    return share;
  }

  /** Functions, and the blocks that V8 counts apart: what follows `if`, `else`, `&&`, `??`, `catch`, an early return. */
  branches(): Share {
    let reached = 0;
    for (const start of this.#branches) reached += this.#run[start]!;
    return { reached, all: this.#branches.size };
  }

  /** What never ran. */
  missed(): Stretch[] {
    const found: Stretch[] = [];
    let stretch: Stretch | undefined;
    for (let i = 0; i < this.#run.length; i++) {
      if (this.#run[i]) stretch = undefined;
      else if (stretch) stretch.end = i + 1;
      else if (this.#code[i]) found.push(stretch = { start: i, end: i + 1 });
    }
    return found;
  }
}
