// The receiver of shop.ts: a line for each delivery, which is in the file before it is acknowledged.
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";

const FILE = "/ledger/deliveries.jsonl";

appendFileSync(FILE, "");
createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = JSON.parse(Buffer.concat(chunks).toString());
    const binary = request.headers["ce-id"] !== undefined;
    const events = binary ? [{ id: request.headers["ce-id"], data: body }] : [body].flat();
    const { authorization = "", host } = request.headers;
    const lines = events.map(({ id, data }) => {
      const { operation, new: row } = data;
      return `${JSON.stringify({ id, operation, new: row, authorization, host })}\n`;
    });
    appendFileSync(FILE, lines.join(""));
    response.writeHead(204).end();
  });
}).listen(8080);
process.on("SIGTERM", () => process.exit(0));
