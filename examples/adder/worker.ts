import { type Connection, EOFError } from "../../mod.ts";
import { work } from "../_worker.ts";

interface Args {
  server: Connection<[number, number], number>;
}

await work(async ({ server }: Args) => {
  while (true) {
    try {
      const [x, y] = await server.recv();
      await server.send(x + y);
    } catch (error) {
      if (!(error instanceof EOFError)) throw error;
      server.close();
      break;
    }
  }
  console.log("server done");
});
