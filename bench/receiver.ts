/** The receiver of the benchmarks, a process of its own: counts events, and notes when each arrived. */
import { createServer } from "node:http";

let events = 0;
/** Key of the row, and when its event arrived, in milliseconds since the epoch. */
let arrivals: [string, number][] = [];
const BATCH = /"specversion"/g;

const server = createServer((request, response) => {
  const receivedMs = performance.timeOrigin + performance.now();
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const subject = request.headers["ce-subject"];
    if (subject === undefined) events += Buffer.concat(chunks).toString().match(BATCH)?.length ?? 1;
    else {
      events += 1;
      arrivals.push([decodeURIComponent(String(subject)), receivedMs]);
    }
    response.writeHead(204).end();
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => process.send?.({ port: (server.address() as { port: number }).port }));

process.on("message", (message) => {
  if (message === "reset") {
    events = 0;
    arrivals = [];
  }
  process.send?.({ events, arrivals: message === "arrivals" ? arrivals : [] });
});
process.on("disconnect", () => process.exit(0));
