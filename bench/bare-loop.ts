/** The limit to compare with: reads the outbox by a cursor and POSTs strings, without order, retry or checkpoint. */
import pg from "pg";
import { Agent } from "undici";
import { unpackImages } from "../src/core/delivery/packed-images.ts";

const [url = "", target = "", perRequest = "1", inFlight = "16"] = process.argv.slice(2);
const agent = new Agent({ connections: Number(inFlight), pipelining: 1, allowH2: false });
const { origin, pathname } = new URL(target);
const client = new pg.Client({ connectionString: url });
await client.connect();
await client.query(
  "begin; declare events no scroll cursor for select coalesce(ids::text[], array[id::text]), xid, table_name, new, array_to_string(new_columns, ',') from pgevents.outbox order by id",
);
let open = 0;
let resume: (() => void) | null = null;

async function post(body: string): Promise<void> {
  const { body: answer } = await agent.request({
    origin,
    path: pathname,
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  await answer.dump();
  open -= 1;
  resume?.();
}

for (;;) {
  const { rows: read } = await client.query<[string[], string, string, string | null, string]>({
    text: "fetch 1000 from events",
    rowMode: "array",
  });
  if (read.length === 0) break;
  const rows = read.flatMap(([ids, xid, table, row, columns]) => {
    const images = row === null ? unpackImages(columns) : [row];
    return ids.map((id, place) => [id, xid, table, images[place]]);
  });
  for (let at = 0; at < rows.length; at += Number(perRequest)) {
    const events = rows
      .slice(at, at + Number(perRequest))
      .map(
        ([id, xid, table, row]) =>
          `{"specversion":"1.0","id":"${xid}-${id}","subject":"${table}","data":${row}}`,
      );
    while (open >= Number(inFlight)) await new Promise<void>((resolve) => (resume = resolve));
    open += 1;
    void post(events.length === 1 ? (events[0] ?? "") : `[${events.join(",")}]`);
  }
}
while (open > 0) await new Promise<void>((resolve) => (resume = resolve));
await agent.close();
await client.end();
