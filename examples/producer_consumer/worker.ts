import { type Connection, EOFError } from "../../mod.ts";
import { work } from "../_worker.ts";

interface Args {
  conn: Connection<number>;
  name: string;
}

await work(async ({ conn, name }: Args) => {
  while (true) {
    try {
      const baozi = await conn.recv();
      console.log(`${name} 收到包子:${baozi}`);
    } catch (error) {
      if (!(error instanceof EOFError)) throw error;
      conn.close();
      break;
    }
  }
});
