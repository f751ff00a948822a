/** What the benchmarks share: a server, the table, capture, the receiver, and how figures are told. */
import { type ChildProcess, execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { parsePgEventSource } from "../src/core/api/parse.ts";
import type { PgEventSource } from "../src/core/api/source.ts";
import { databaseFromUrl } from "../src/core/settings/database.ts";
import { buildCapture } from "../src/postgres/build.ts";
import { removeCapture } from "../src/postgres/removal.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../src/runtime/embedded-postgres.ts";

export const OWNER = "manifest:default/bench";

/** Twelve columns of ordinary kinds, as in shared measurements of such designs. */
const TABLE = `
  drop table if exists bench;
  create table bench (
    id bigint generated always as identity primary key, a integer, b integer, c text, d text, e text,
    f timestamptz default now(), g numeric default 12.5, h text, i text, j boolean default true, k integer)`;

export const INSERT =
  "insert into bench (a, b, c, d, e, h, i) values (1, 2, 'customer name', 'some street 12', 'a@example.com', 'hhhhhhhhhhhhhhhh', 'iiiiiiiiiiii')";

export interface Bench {
  readonly server: EmbeddedPostgres;
  readonly client: pg.Client;
  source(uri: string, changes?: Record<string, unknown>): PgEventSource;
  build(source: PgEventSource): Promise<void>;
  remove(): Promise<void>;
  close(): Promise<void>;
}

export async function startBench(): Promise<Bench> {
  const server = await startEmbeddedPostgres({
    settings: {
      shared_buffers: "512MB",
      max_wal_size: "8GB",
      checkpoint_timeout: "30min",
      max_connections: "100",
      synchronous_commit: "on",
    },
  });
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query(TABLE);
  const settings = databaseFromUrl(server.url, "the benchmark's database");
  return {
    server,
    client,
    source: (uri, changes = {}) =>
      parsePgEventSource(
        {
          apiVersion: "pgevents.dev/v1alpha1",
          kind: "PgEventSource",
          metadata: { name: "bench" },
          spec: { callbacks: [{ name: "bench", ...changes, http: { uri, ...(changes.http as object) } }] },
        },
        "the benchmark's source",
      ),
    build: async ({ spec }) => {
      await buildCapture(
        settings,
        { capture: spec.capture, callbacks: ["bench"], owner: OWNER, version: "bench" },
        { mode: "apply" },
      );
    },
    remove: async () => {
      await removeCapture(settings, { schemaName: "pgevents", owner: OWNER });
    },
    close: async () => {
      await client.end();
      await server.stop();
    },
  };
}

/** So many rows by one statement. */
export const insertRows = (count: number) =>
  `${INSERT.replace(/ values .*/, "")} select 1, 2, 'customer name', 'some street 12', 'a@example.com', 'hhhhhhhhhhhhhhhh', 'iiiiiiiiiiii' from generate_series(1, ${count})`;

export interface BenchReceiver {
  readonly url: string;
  readonly pid: number;
  reset(): Promise<void>;
  count(): Promise<number>;
  /** When the event of each row arrived, milliseconds since the epoch, by CloudEvents subject. */
  arrivals(): Promise<Map<string, number>>;
  close(): void;
}

export async function startBenchReceiver(): Promise<BenchReceiver> {
  const child: ChildProcess = fork(join(import.meta.dirname, "receiver.ts"));
  const [{ port }] = (await once(child, "message")) as [{ port: number }];
  const ask = async (question: string) => {
    child.send(question);
    const [answer] = (await once(child, "message")) as [{ events: number; arrivals: [string, number][] }];
    return answer;
  };
  return {
    url: `http://127.0.0.1:${port}/`,
    pid: child.pid as number,
    reset: async () => void (await ask("reset")),
    count: async () => (await ask("count")).events,
    arrivals: async () => new Map((await ask("arrivals")).arrivals),
    close: () => child.disconnect(),
  };
}

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** `median (least–most)`, with so many digits. */
export function told(numbers: readonly number[], digits = 0): string {
  const text = (number: number) => number.toFixed(digits);
  return `${text(median(numbers))} (${text(Math.min(...numbers))}–${text(Math.max(...numbers))})`;
}

export async function machine(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ version: string }>(
    "select current_setting('server_version') as version",
  );
  const revision = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  return `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB; Node ${process.version}, PostgreSQL ${rows[0]?.version}, pg-events ${revision}`;
}
