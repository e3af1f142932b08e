// Posts back what it is sent; "exit" ends it, "throw" makes it fail.

import { exit, inbox, post } from "../_worker.ts";

inbox((data) => {
  if (data === "exit") exit();
  else if (data === "throw") throw new Error("Thrown on request");
  else post(data);
});
