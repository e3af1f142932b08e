/** What an entry of a {@linkcode List} has: its place. */
export interface Entry {
  // deno-lint-ignore no-explicit-any
  list: List<any> | undefined;
  previous: this | undefined;
  next: this | undefined;
}

/** A list in order of arrival, from which any entry leaves in constant time. */
export class List<E extends Entry> {
  first: E | undefined;
  #last: E | undefined;

  push(entry: E): void {
    entry.list = this;
    entry.previous = this.#last;
    if (this.#last) this.#last.next = entry;
    else this.first = entry;
    this.#last = entry;
  }

  /** Takes an entry of this list out. */
  remove(entry: E): void {
    const { previous, next } = entry;
    if (previous) previous.next = next;
    else this.first = next;
    if (next) next.previous = previous;
    else this.#last = previous;
    entry.list = entry.previous = entry.next = undefined;
  }

  /** Calls `visit` for each entry that is still here when its turn comes. */
  forEach(visit: (entry: E) => void): void {
    const entries: E[] = [];
    for (let entry = this.first; entry; entry = entry.next) entries.push(entry);
    for (const entry of entries) if (entry.list === this) visit(entry);
  }
}
