// Finds a Chromium that is installed; none is ever downloaded.

const PLACES = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
];

/** Without these a headless Chromium in a container does not start, or calls home. */
export const FLAGS: string[] = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** The path of the browser, from BROWSER or where systems have it; else says what to do. */
export function findBrowser(): string {
  const named = Deno.env.get("BROWSER");
  const found = (named ? [named] : PLACES).find(exists);
  if (found) return found;
  console.error(
    "No Chromium found. Install it (Debian: apt-get install chromium), or name one: BROWSER=/path/to/chrome",
  );
  Deno.exit(1);
}
