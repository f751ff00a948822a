/** Builds of 1,000 tables: how long they take, and how long a writer waits because of one. */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { captureSchema } from "../src/core/api/capture.ts";
import { type DatabaseSettings, databaseFromUrl } from "../src/core/settings/database.ts";
import { buildCapture } from "../src/postgres/build.ts";
import { removeCapture } from "../src/postgres/removal.ts";
import type { Bench } from "./setup.ts";
import { OWNER, told } from "./setup.ts";

const TABLES = 1000;
const BUSY_TABLE = 500;
const WRITERS = 8;
const ROUNDS = 3;
const LOOKS = 9;
const DATABASE = "builds";

export async function benchBuilds({ server, client }: Bench): Promise<string[]> {
  await client.query(`create database ${DATABASE}`);
  const url = new URL(server.url);
  url.pathname = `/${DATABASE}`;
  const settings = databaseFromUrl(url.href, "the benchmark's database");
  const own = new pg.Client({ connectionString: url.href });
  await own.connect();
  try {
    await own.query(`do $$ begin
      for number in 1..${TABLES} loop
        execute format('create table t%s (id bigint generated always as identity primary key, a integer, b text, c timestamptz default now())', number);
      end loop;
    end $$`);
    return [
      `Builds of ${TABLES} tables, 4 triggers each; writers: ${WRITERS} that insert, every second one always into the same table, the others anywhere; the blocker is a transaction that wrote to that table and stays open, so that the build waits for it, and writers behind the build.`,
      "",
      "| build | takes | longest wait of a writer |",
      "|---|---|---|",
      ...(await fullBuilds(settings, url.href)),
      ...(await noOpBuilds(settings)),
      "",
      `Of ${ROUNDS} builds, and ${LOOKS} that find nothing to do; lockTimeoutSeconds is ${settings.lockTimeoutSeconds}.`,
    ];
  } finally {
    await own.end();
    await client.query(`drop database ${DATABASE} with (force)`);
  }
}

const build = async (settings: DatabaseSettings, schemaChanges: "EventTrigger" | "Poll" = "EventTrigger") => {
  const startedMs = performance.now();
  const capture = captureSchema.parse({ schemaChanges });
  const request = { capture, callbacks: ["bench"], owner: OWNER, version: "bench" };
  const report = await buildCapture(settings, request, { mode: "apply" });
  return { report, milliseconds: performance.now() - startedMs };
};

const remove = (settings: DatabaseSettings) =>
  removeCapture(settings, { schemaName: "pgevents", owner: OWNER });

async function fullBuilds(settings: DatabaseSettings, url: string): Promise<string[]> {
  const lines: string[] = [];
  for (const { name, writers, blocked } of [
    { name: "the first one, nobody writes", writers: 0, blocked: false },
    { name: "the first one, beside writers", writers: WRITERS, blocked: false },
    { name: "the first one, beside writers and the blocker", writers: WRITERS, blocked: true },
  ]) {
    const took: number[] = [];
    const waits: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const blocker = blocked ? await block(url) : null;
      const traffic = await startTraffic(url, writers);
      await sleep(500);
      traffic.reset();
      took.push((await build(settings)).milliseconds);
      waits.push(await traffic.stop());
      await blocker?.end();
      await remove(settings);
    }
    lines.push(`| ${name} | ${told(took)} ms | ${writers === 0 ? "" : `${told(waits)} ms`} |`);
  }
  return lines;
}

async function noOpBuilds(settings: DatabaseSettings): Promise<string[]> {
  const lines: string[] = [];
  for (const mode of ["EventTrigger", "Poll"] as const) {
    await build(settings, mode);
    const took: number[] = [];
    for (let look = 0; look < LOOKS; look += 1) took.push((await build(settings, mode)).milliseconds);
    lines.push(`| nothing to do, schemaChanges ${mode} | ${told(took)} ms | |`);
  }
  await remove(settings);
  return lines;
}

/** A transaction that wrote to one table, and stays open until the connection is ended. */
async function block(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`begin; insert into t${BUSY_TABLE} (a, b) values (1, 'some text')`);
  return client;
}

/** Writers that know how long each insert took. */
async function startTraffic(url: string, writers: number) {
  let longestMs = 0;
  let stopped = false;
  const clients = Array.from({ length: writers }, () => new pg.Client({ connectionString: url }));
  const loops = clients.map(async (client, writer) => {
    await client.connect();
    while (!stopped) {
      const table = writer % 2 === 0 ? BUSY_TABLE : 1 + Math.floor(Math.random() * TABLES);
      const startedMs = performance.now();
      await client.query(`insert into t${table} (a, b) values (1, 'some text')`);
      longestMs = Math.max(longestMs, performance.now() - startedMs);
    }
    await client.end();
  });
  return {
    reset: () => {
      longestMs = 0;
    },
    stop: async () => {
      stopped = true;
      await Promise.all(loops);
      return longestMs;
    },
  };
}
