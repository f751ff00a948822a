/**
 * Writers that do at random what applications do: transactions that interleave on several connections,
 * roll back, use savepoints, stay open for long, meet locks of others; and changes of the tables meanwhile.
 * The same seed makes the same decisions (what the locks then do is the server's affair).
 */
import type pg from "pg";
import { connect, type TestDatabase, type TestEnd } from "./postgres.ts";

export const RANDOM_TABLES = `
  create table orders (id integer primary key, note text, amount integer);
  create table lines (order_id integer, line integer, note text, amount integer, primary key (order_id, line));
  create table log (id integer, note text, amount integer);
  create table sales (region integer, id integer, note text, amount integer, primary key (region, id)) partition by list (region);
  create table sales_0 partition of sales for values in (0);
  create table sales_1 partition of sales for values in (1);
  create table sales_rest partition of sales default;`;

const CONNECTIONS = 4;
/** Few keys, so that transactions meet. */
const KEYS = 40;
/** One statement runs at a time, so a lock that is not free now is not free in a second either. */
const LOCK_TIMEOUT = "20ms";

export type Random = (below: number) => number;

/** mulberry32, Tommy Ettinger 2017, public domain. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

interface Writer {
  readonly client: pg.Client;
  /** Statements of the open transaction; null when there is none. */
  depth: number | null;
}

/** Does `steps` steps; `between` is called after each with its number. All transactions are over at the end. */
export async function writeAtRandom(
  t: TestEnd,
  database: TestDatabase,
  random: Random,
  { steps, between }: { steps: number; between: (step: number) => Promise<void> },
): Promise<void> {
  const writers: Writer[] = [];
  for (let index = 0; index < CONNECTIONS; index += 1) {
    const client = await connect(t, database.url);
    await client.query(`set lock_timeout = '${LOCK_TIMEOUT}'`);
    writers.push({ client, depth: null });
  }
  for (let step = 1; step <= steps; step += 1) {
    const writer = writers[random(writers.length)] as Writer;
    await act(writer, random, step);
    await between(step);
  }
  for (const writer of writers) await finish(writer, random);
}

async function act(writer: Writer, random: Random, step: number): Promise<void> {
  if (writer.depth === null) {
    if (random(12) === 0) return attempt(writer, tableChange(random, step));
    if (random(3) === 0) return attempt(writer, rowChange(random, step)); // a transaction by itself
    await writer.client.query("begin");
    writer.depth = 0;
    return;
  }
  if (random(6) === 0) return finish(writer, random);
  writer.depth += 1;
  if (random(5) === 0) {
    await attempt(writer, "savepoint s");
    await attempt(writer, rowChange(random, step));
    if (writer.depth !== null && random(2) === 0) await attempt(writer, "rollback to savepoint s");
    return;
  }
  await attempt(writer, rowChange(random, step));
}

/** A statement that fails, mostly for a lock, ends its transaction. */
async function attempt(writer: Writer, statement: string): Promise<void> {
  try {
    await writer.client.query(statement);
  } catch (error) {
    if (!EXPECTED.includes((error as { code?: string }).code ?? "")) throw error;
    if (writer.depth !== null) await writer.client.query("rollback");
    writer.depth = null;
  }
}

/** Lock not had, deadlock, key taken twice, column there or not there. */
const EXPECTED = ["55P03", "40P01", "23505", "42701", "42703"];

async function finish(writer: Writer, random: Random): Promise<void> {
  if (writer.depth === null) return;
  await writer.client.query(random(4) === 0 ? "rollback" : "commit");
  writer.depth = null;
}

function rowChange(random: Random, step: number): string {
  const [one, other, region] = [random(KEYS), random(KEYS), random(4)];
  const where = `id between ${one} and ${one + 2}`;
  const count = random(6) === 0 ? 300 + random(300) : 1 + random(5); // many share rows of the outbox
  const statements = [
    `insert into orders (id, note, amount) values (${one}, 'n${step}', ${step})`,
    `insert into orders (id, note, amount) values (${one}, 'n${step}', ${step}) on conflict (id) do update set amount = ${step}`,
    `insert into lines (order_id, line, amount) select ${one}, i, ${step} from generate_series(1, ${count}) as i on conflict do nothing`,
    `update orders set amount = ${step} where ${where}`,
    `update orders set id = ${other}, note = null where id = ${one}`,
    `update lines set line = line + 100, note = 'm${step}' where order_id = ${one} and line < 100`,
    `delete from orders where ${where}`,
    `delete from lines where order_id = ${one}`,
    `insert into log (id, note) values (${one}, repeat('x', ${random(30_000)}))`,
    `update log set amount = ${step} where id = ${one}`,
    `delete from log where id = ${one}`,
    `with gone as (delete from orders where id = ${one} returning *) insert into log (id, note) select id, 'gone' from gone`,
    `insert into sales (region, id, amount) values (${region}, ${one}, ${step}) on conflict (region, id) do update set amount = ${step}`,
    `update sales set region = ${region} where id = ${one} and not exists (select from sales as other where other.region = ${region} and other.id = ${one})`,
    `update sales_1 set note = 's${step}'`,
    `delete from sales where id = ${one}`,
  ];
  return random(60) === 0
    ? `truncate ${["log", "lines", "sales_0"][random(3)]}`
    : (statements[random(statements.length)] as string);
}

function tableChange(random: Random, step: number): string {
  const table = ["orders", "lines", "log", "sales"][random(4)];
  return random(2) === 0
    ? `alter table ${table} add column c${step % 3} integer`
    : `alter table ${table} drop column c${step % 3}`;
}
