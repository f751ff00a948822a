/** The receiver of the benchmarks, a process of its own: counts events, and measures the time since the write. */
import { createServer } from "node:http";

let events = 0;
let latencies: number[] = [];
const BATCH = /"specversion"/g;

const server = createServer((request, response) => {
  const receivedMs = performance.timeOrigin + performance.now();
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const time = request.headers["ce-time"];
    if (time === undefined) events += Buffer.concat(chunks).toString().match(BATCH)?.length ?? 1;
    else {
      events += 1;
      latencies.push(receivedMs - Date.parse(String(time)));
    }
    response.writeHead(204).end();
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => process.send?.({ port: (server.address() as { port: number }).port }));

process.on("message", (message) => {
  if (message === "reset") {
    events = 0;
    latencies = [];
  }
  process.send?.({ events, latencies: message === "latencies" ? latencies : [] });
});
process.on("disconnect", () => process.exit(0));
