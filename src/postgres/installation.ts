/** What a build has written down about the capture that it made. */
import type { ClientBase, Pool } from "pg";
import type { SchemaChangeMode } from "../core/capture/model.ts";
import type { CaptureNames } from "../core/capture/names.ts";

/** SQLSTATEs where there is no capture yet, or one of an older version. */
const NOT_BUILT = ["42P01", "3F000", "42703"];

export interface Installation {
  readonly id: string;
  readonly schemaChangeMode: SchemaChangeMode;
}

/** @returns null when no build was completed @throws the driver's error */
export async function readInstallation(
  pool: Pool | ClientBase,
  names: CaptureNames,
): Promise<Installation | null> {
  try {
    const { rows } = await pool.query<Installation>(
      `select installation_id as id, coalesce(schema_change_mode, 'Off') as "schemaChangeMode"
       from ${names.schema}.installation`,
    );
    return rows[0] ?? null;
  } catch (error) {
    if (NOT_BUILT.includes((error as { code?: string }).code ?? "")) return null;
    throw error;
  }
}
