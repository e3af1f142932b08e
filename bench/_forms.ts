// How `_sketches.ts` and its worker post a value: in a tagged list, as the module must; or that list as text.

const TAG = 1;

/** Of the shared words of a bound: how many items have been taken. */
export const TAKEN = 0;
/** And whether the next one is to be told. */
export const BELL = 16;

/** A value as it is posted. */
export function fold(text: boolean, value: unknown): unknown {
  return text ? JSON.stringify([TAG, value]) : [TAG, value];
}

/** What was folded. */
export function unfold(text: boolean, data: unknown): unknown {
  return (text ? JSON.parse(data as string) : data as unknown[])[1];
}
