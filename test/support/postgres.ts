/**
 * Real PostgreSQL for tests: a fresh database a test, on one server.
 *
 * The server is the runner's (PG_EVENTS_TEST_POSTGRES_URL, a superuser's URL). When a test file is run
 * alone there is none: then this process starts one at the first use, and stops it after its last test.
 */
import { randomBytes } from "node:crypto";
import { after } from "node:test";
import pg from "pg";
import { type DatabaseSettings, databaseFromUrl } from "../../src/core/settings/database.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/runtime/embedded-postgres.ts";
import type { PostgresPrograms } from "../../src/runtime/embedded-postgres-binaries.ts";
import { programsOf } from "./postgres-programs.ts";

/** What tests need of a server: speed, and room for many tests at once. */
const TEST_SERVER_SETTINGS = { fsync: "off", max_connections: "200" };

/** The part of node:test's TestContext that says when a test ends; a suite's hooks fit too. */
export interface TestEnd {
  after(work: () => Promise<void> | void): void;
  /** False after a test that failed. */
  readonly passed?: boolean;
  diagnostic?(message: string): void;
}

export interface TestDatabaseOptions {
  /** Whether an ordinary role without any special right owns the database, and is what `url` logs in as. */
  readonly owner?: boolean;
  /** Encoding of the database, with the locale C. Default: the server's, UTF8. */
  readonly encoding?: string;
  /** Where. Default: the server that the tests share. */
  readonly server?: EmbeddedPostgres;
}

export interface TestDatabase {
  readonly url: string;
  /** The same database as a superuser. */
  readonly superuserUrl: string;
  readonly name: string;
  readonly settings: DatabaseSettings;
  /** A connection as the user of `url`. */
  readonly client: pg.Client;
  query<Row extends pg.QueryResultRow = Record<string, unknown>>(
    sql: string,
    parameters?: unknown[],
  ): Promise<pg.QueryResult<Row>>;
}

/** A new, empty database; dropped after the test together with whatever is still connected. */
export async function testDatabase(t: TestEnd, options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const server = options.server?.url ?? (await serverUrl());
  const name = `test_${randomBytes(6).toString("hex")}`;
  const password = randomBytes(12).toString("hex");
  const encoding = options.encoding ? ` encoding '${options.encoding}' locale 'C' template template0` : "";
  const statements = options.owner
    ? [
        `create role ${name} login nosuperuser nocreatedb nocreaterole nobypassrls password '${password}'`,
        `create database ${name} owner ${name}${encoding}`,
      ]
    : [`create database ${name}${encoding}`];
  await execute(server, statements);
  const superuserUrl = urlOf(server, { database: name });
  const url = options.owner ? urlOf(server, { database: name, user: name, password }) : superuserUrl;
  const client = new pg.Client({ connectionString: url, application_name: "test" });
  client.on("error", () => undefined); // tests kill connections; the next query reports it
  t.after(async () => {
    await client.end().catch(() => undefined);
    if (options.server !== undefined) return; // it goes with its server
    const dropRole = options.owner ? [`drop role if exists ${name}`] : [];
    await execute(server, [`drop database if exists ${name} with (force)`, ...dropRole]);
  });
  await client.connect();
  return {
    url,
    superuserUrl,
    name,
    settings: databaseFromUrl(url, "the test's database"),
    client,
    query: (sql, parameters) => client.query(sql, parameters),
  };
}

/** One more connection, ended after the test. */
export async function connect(t: TestEnd, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: "test" });
  client.on("error", () => undefined); // the database is dropped under it
  await client.connect();
  t.after(() => client.end().catch(() => undefined));
  return client;
}

/** A server of the test's own, of the version that the tests run on; stopped after the test. */
export async function ownServer(
  t: TestEnd,
  settings: Readonly<Record<string, string>> = {},
): Promise<EmbeddedPostgres> {
  // Killing loses what the system has not written only when the machine dies, so fsync may be off here too.
  const major = process.env.PG_EVENTS_TEST_POSTGRES_MAJOR;
  const programs = major === undefined ? {} : { programs: await programsOf(major) };
  const server = await startEmbeddedPostgres({
    settings: { ...TEST_SERVER_SETTINGS, ...settings },
    ...programs,
  });
  t.after(() => server.stop());
  return server;
}

/** A server where transactions can be prepared; stopped after the test. */
export function twoPhaseServer(t: TestEnd): Promise<EmbeddedPostgres> {
  return ownServer(t, { max_prepared_transactions: "10" });
}

/** The server all tests of a run share. The caller stops it. @param programs default: the embedded ones */
export function startSharedServer(programs?: PostgresPrograms): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({
    settings: TEST_SERVER_SETTINGS,
    ...(programs === undefined ? {} : { programs }),
  });
}

/** Major version of the server of a database. */
export async function serverMajor({ query }: TestDatabase): Promise<number> {
  const { rows } = await query<{ server_version: string }>("show server_version");
  return Number.parseInt(rows[0]?.server_version ?? "", 10);
}

let started: Promise<EmbeddedPostgres> | null = null;

// Registered while the file loads, and not at the first use: inside a test it would be that test's hook.
after(async () => {
  const server = await started?.catch(() => null);
  await server?.stop();
});

async function serverUrl(): Promise<string> {
  const given = process.env.PG_EVENTS_TEST_POSTGRES_URL;
  if (given !== undefined && given !== "") return given;
  started ??= startSharedServer();
  return (await started).url;
}

async function execute(url: string, statements: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

function urlOf(server: string, parts: { database: string; user?: string; password?: string }): string {
  const url = new URL(server);
  url.pathname = `/${parts.database}`;
  if (parts.user !== undefined) url.username = parts.user;
  if (parts.password !== undefined) url.password = parts.password;
  return url.href;
}
