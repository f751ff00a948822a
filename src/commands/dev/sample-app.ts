/** A small shop that writes to the embedded database, so that there is something to see. */
import type { Client } from "pg";

const STATEMENT_PAUSE_MS = 600;
const CUSTOMERS = ["Ada", "Grace", "Edsger", "Barbara", "Donald", "Tony"];

export const SAMPLE_SCHEMA = `
  create table if not exists public.customers (
    id integer generated always as identity primary key, name text not null, created_at timestamptz not null default now());
  create table if not exists public.orders (
    id integer generated always as identity primary key, customer_id integer not null references public.customers,
    state text not null default 'new', total numeric(10,2) not null, changed_at timestamptz not null default now())`;

/** Writes inserts, updates and deletes until the signal; each statement is a transaction. */
export async function runSampleApp(client: Client, signal: AbortSignal): Promise<void> {
  for (let round = 0; !signal.aborted; round += 1) {
    const name = CUSTOMERS[round % CUSTOMERS.length];
    const customer = await insert(client, "insert into public.customers (name) values ($1) returning id", [
      name,
    ]);
    await pause(signal);
    const order = await insert(
      client,
      "insert into public.orders (customer_id, total) values ($1, $2) returning id",
      [customer, (10 + round * 1.25).toFixed(2)],
    );
    await pause(signal);
    await client.query("update public.orders set state = 'paid', changed_at = now() where id = $1", [order]);
    await pause(signal);
    await client.query("update public.orders set state = 'sent', changed_at = now() where id = $1", [order]);
    await pause(signal);
    if (round % 3 === 2) await client.query("delete from public.orders where id = $1", [order]);
    await pause(signal);
  }
}

async function insert(client: Client, text: string, values: unknown[]): Promise<number> {
  const { rows } = await client.query<{ id: number }>(text, values);
  return rows[0]?.id as number;
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, STATEMENT_PAUSE_MS);
    const wake = () => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener("abort", wake, { once: true });
  });
}
