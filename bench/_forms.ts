// How `_limits.ts` and its worker post a value.

/** As it is, in a tagged list, or that list as text. */
export type Form = "bare" | "tagged" | "text";

const TAG = 1;

/** Of the shared words of a bound: how many items have been taken. */
export const TAKEN = 0;
/** And whether the next one is to be told. */
export const BELL = 16;

/** A value as it is posted. */
export function fold(form: Form, value: unknown): unknown {
  if (form === "bare") return value;
  return form === "text" ? JSON.stringify([TAG, value]) : [TAG, value];
}

/** What was folded. */
export function unfold(form: Form, data: unknown): unknown {
  if (form === "bare") return data;
  return (form === "text" ? JSON.parse(data as string) : data)[1];
}
