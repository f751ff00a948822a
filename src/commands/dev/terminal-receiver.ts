/** A real HTTP receiver that prints the CloudEvents it gets, a line an event. */
import { createServer, type IncomingMessage } from "node:http";

interface ShownEvent {
  readonly callback: string;
  readonly operation: string;
  readonly subject: string;
  readonly data: string;
}

export interface TerminalReceiver {
  /** Base address; `/<callback>` under it is a callback's. */
  readonly url: string;
  close(): Promise<void>;
}

export async function startTerminalReceiver(print: (line: string) => void): Promise<TerminalReceiver> {
  const server = createServer((request, response) => {
    readBody(request).then(
      (body) => {
        for (const event of eventsOf(request, body)) print(lineOf(event));
        response.writeHead(204).end();
      },
      () => response.destroy(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

function eventsOf(request: IncomingMessage, body: string): ShownEvent[] {
  const callback = (request.url ?? "/").slice(1);
  if (request.headers["ce-id"] !== undefined) {
    return [
      shown(
        callback,
        decodeURIComponent(String(request.headers["ce-subject"])),
        JSON.parse(body) as EventData,
      ),
    ];
  }
  const parsed = JSON.parse(body) as
    | { subject: string; data: EventData }
    | { subject: string; data: EventData }[];
  return (Array.isArray(parsed) ? parsed : [parsed]).map(({ subject, data }) =>
    shown(callback, subject, data),
  );
}

interface EventData {
  readonly operation: string;
  readonly old: unknown;
  readonly new: unknown;
}

function shown(callback: string, subject: string, data: EventData): ShownEvent {
  return { callback, subject, operation: data.operation, data: JSON.stringify(data.new ?? data.old) };
}

function lineOf({ callback, operation, subject, data }: ShownEvent): string {
  const time = new Date().toISOString().slice(11, 23);
  return `${time}  ${callback}  ${operation.padEnd(8)}  ${subject}  ${data}`;
}
