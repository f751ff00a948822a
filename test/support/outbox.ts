/** A database with capture and two callbacks, for tests of the outbox itself: no worker runs. */
import type pg from "pg";
import type { CaptureSpec } from "../../src/core/api/capture.ts";
import { type CaptureNames, captureNames } from "../../src/core/capture/names.ts";
import { type DatabaseSettings, databaseFromUrl } from "../../src/core/settings/database.ts";
import { keepOutbox, type OutboxReport } from "../../src/postgres/backlog.ts";
import { buildCapture } from "../../src/postgres/build.ts";
import { captureSpec } from "./capture-spec.ts";
import { connect, type TestEnd } from "./postgres.ts";

export const CALLBACKS = ["audit", "orders"];

export interface TestOutbox {
  readonly names: CaptureNames;
  readonly capture: CaptureSpec;
  readonly settings: DatabaseSettings;
  /** A connection that stays open. */
  readonly client: pg.Client;
  build(): Promise<void>;
  /** One round of what workers do every few seconds. */
  keep(backlog?: Partial<CaptureSpec["backlog"]>, retentionSeconds?: number): Promise<OutboxReport>;
  /** The callback has everything. */
  catchUp(callback: string): Promise<void>;
  /** Makes the open segment older. */
  age(interval: string): Promise<void>;
  /** Number of events by segment, those without any left out. */
  events(): Promise<Record<string, number>>;
}

/** Tables `orders (id integer primary key, note text)` and what a build makes. */
export async function testOutbox(t: TestEnd, url: string): Promise<TestOutbox> {
  const client = await connect(t, url);
  const names = captureNames("pgevents");
  const settings = databaseFromUrl(url, "the test's database");
  const capture = captureSpec({ retentionSeconds: 0 });
  const build = async () => {
    const owner = "manifest:default/test";
    await buildCapture(settings, { capture, callbacks: CALLBACKS, owner, version: "1" }, { mode: "apply" });
  };
  await client.query("create table if not exists orders (id integer primary key, note text)");
  await build();
  return {
    names,
    capture,
    settings,
    client,
    build,
    keep: (backlog = {}, retentionSeconds = 0) =>
      keepOutbox(client, names, {
        ...capture,
        retentionSeconds,
        backlog: { ...capture.backlog, ...backlog },
      }),
    catchUp: async (callback) => {
      await client.query(
        "update pgevents.callback set seen = pg_current_snapshot(), ahead = null, ahead_id = null where name = $1",
        [callback],
      );
    },
    age: async (interval) => {
      await client.query(
        "update pgevents.segment set opened_at = opened_at - $1::interval, closed_at = closed_at - $1::interval",
        [interval],
      );
    },
    events: async () => {
      const { rows } = await client.query<{ segment: number; count: number }>(
        "select segment, count(*)::integer as count from pgevents.logged(false) group by segment order by segment",
      );
      return Object.fromEntries(rows.map(({ segment, count }) => [String(segment), count]));
    },
  };
}
