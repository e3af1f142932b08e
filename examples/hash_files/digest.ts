import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

/** The SHA-256 of a file in hexadecimal, or why it cannot be read. */
export async function digest(path: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk);
  } catch (error) {
    return `unreadable: ${(error as { code?: string }).code}`;
  }
  return hash.digest("hex");
}
