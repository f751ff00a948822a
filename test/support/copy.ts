/** COPY, both ways. */
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from, to } from "pg-copy-streams";

/** Copies into `target` what a session copies out of `source`; both as they stand after COPY. */
export async function copyIn(
  client: pg.Client,
  reader: pg.Client,
  target: string,
  source: string,
): Promise<void> {
  await pipeline(reader.query(to(`copy ${source}`)), client.query(from(`copy ${target}`)));
}
