/** A database with captured tables, and its events as a worker reads them. */
import assert from "node:assert/strict";
import type { CaptureSpec } from "../../src/core/api/capture.ts";
import { captureNames } from "../../src/core/capture/names.ts";
import type { ChangeEvent } from "../../src/core/event.ts";
import { type BuildReport, buildCapture } from "../../src/postgres/build.ts";
import { createPool } from "../../src/postgres/connect.ts";
import { OutboxReader } from "../../src/postgres/outbox.ts";
import { OutboxCursor } from "../../src/worker/outbox-cursor.ts";
import { captureSpec } from "./capture-spec.ts";
import { type TestDatabase, type TestDatabaseOptions, type TestEnd, testDatabase } from "./postgres.ts";

const NAMES = captureNames("pgevents");

export interface CaptureScene extends TestDatabase {
  build(spec?: Partial<CaptureSpec>): Promise<BuildReport>;
  /** Every change since the last call, row images included, in the order of a relay; changes of tables left out. */
  told(): Promise<ChangeEvent[]>;
  /** The same as words: `Update orders [1]`, and `Update orders [1]>[2]` where the key changed. */
  lines(): Promise<string[]>;
}

/**
 * @param tables SQL that makes them
 * @param owner whether everything belongs to an ordinary role (default), which also builds and writes; else to a superuser
 * @param spec `spec.capture`; default: every table
 */
export async function captured(
  t: TestEnd,
  tables: string,
  { owner = true, encoding, server, ...spec }: Partial<CaptureSpec> & TestDatabaseOptions = {},
): Promise<CaptureScene> {
  const database = await testDatabase(t, {
    owner,
    ...(encoding === undefined ? {} : { encoding }),
    ...(server === undefined ? {} : { server }),
  });
  await database.query(tables);
  const build = (changes: Partial<CaptureSpec> = spec) =>
    buildCapture(
      database.settings,
      { capture: captureSpec(changes), callbacks: ["a"], owner: "manifest:default/test", version: "1" },
      { mode: "apply" },
    );
  await build();
  const pool = createPool(database.settings, "worker", 1);
  t.after(() => pool.end());
  const reader = new OutboxReader(pool, NAMES);
  const { rows } = await pool.query<{ seen: string }>("select seen::text from pgevents.callback");
  const cursor = new OutboxCursor(reader, { seen: rows[0]?.seen ?? "", ahead: null, aheadId: null });
  const told = async () => {
    const events: ChangeEvent[] = [];
    let more = true;
    while (more) {
      const read = await cursor.read();
      for (const { event, deferred } of read?.rows ?? []) {
        const whole = deferred ? await reader.readImages(event) : event;
        assert.ok(whole !== undefined);
        events.push(whole);
      }
      more = read !== null && !read.complete;
    }
    return events.filter(({ operation }) => operation !== "SchemaChange");
  };
  return { ...database, build, told, lines: async () => (await told()).map(line) };
}

/** Each as `U {"id":1,"n":1} {"id":1,"n":2}`: operation, row before, row after, without the spaces of the text. */
export function images(events: readonly ChangeEvent[]): string[] {
  return events.map(({ operation, old, new: now }) => {
    const rows = [old, now].filter((image) => image !== null);
    return [operation[0], ...rows.map((image) => JSON.stringify(JSON.parse(image)))].join(" ");
  });
}

function line({ operation, table, key, oldKey }: ChangeEvent): string {
  const keys = oldKey === null ? key : `${oldKey}>${key}`;
  return [operation, table, keys].filter((word) => word !== null).join(" ");
}
