// Request and reply over a duplex pipe: a worker adds two numbers.

import { Pipe } from "../../mod.ts";
import { start } from "../_worker.ts";

const [server, client] = Pipe<[number, number], number>();
const adder = start(new URL("./worker.ts", import.meta.url), { server });

await client.send([10, 20]);
console.log(await client.recv());
client.close();

await adder.join();
console.log("主进程");
