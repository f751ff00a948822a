import type { CaptureSpec } from "../core/api/capture.ts";
import { captureNames } from "../core/capture/names.ts";
import { type CapturePlan, planCapture } from "../core/capture/plan.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { type EventTypes, eventTypes } from "../core/types/events.ts";
import { readCatalog } from "./catalog.ts";
import { readColumns } from "./columns.ts";
import { connectDatabase, databaseError } from "./connect.ts";

/**
 * What the events of a spec look like in a database. Only reads, so a replica will do, and no capture needs to
 * be there.
 * @param reserved names that no type may get
 * @throws PgEventsError
 */
export async function readEventTypes(
  settings: DatabaseSettings,
  capture: CaptureSpec,
  reserved: readonly string[],
): Promise<{ plan: CapturePlan; types: EventTypes }> {
  const client = await connectDatabase(settings, "types");
  try {
    const { relations } = await readCatalog(client, captureNames(capture.schemaName));
    const plan = planCapture(capture, relations);
    const { tables } = plan;
    const columns = await readColumns(client, tables);
    const { context } = capture;
    return { plan, types: eventTypes({ tables, relations, columns, context, reserved }) };
  } catch (error) {
    throw databaseError(error, settings);
  } finally {
    await client.end().catch(() => undefined);
  }
}
