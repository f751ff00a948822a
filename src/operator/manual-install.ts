/** Puts the SQL that somebody has to run where they find it. */
import type { PgEventSource } from "../core/api/source.ts";
import { sqlScript } from "../core/capture/sql-script.ts";
import type { Problem } from "../core/reconcile/observed.ts";
import { KubernetesApiError } from "../kubernetes/api-error.ts";
import { collectionPath } from "../kubernetes/paths.ts";
import { installSqlConfigMap } from "./install-sql.ts";
import { assertMayWrite, type World } from "./world.ts";

/** Characters of the API server's answer that go into a message. */
const MAX_REFUSAL = 500;

/** @returns the name of the ConfigMap, or why there is none */
export async function publishInstallSql(
  world: World,
  source: PgEventSource,
  sql: readonly string[],
  signal: AbortSignal,
): Promise<string | Problem> {
  const body = installSqlConfigMap(source, sqlScript(sql));
  const { name } = body.metadata;
  assertMayWrite(world);
  try {
    const path = collectionPath("api/v1", source.metadata.namespace ?? "", "configmaps");
    await world.client.create(path, body, { signal });
  } catch (error) {
    if (!(error instanceof KubernetesApiError) || ![400, 403, 409, 422].includes(error.status)) throw error;
    if (error.status !== 409) {
      const message = `The API server refused ConfigMap ${name} with the SQL to run: ${error.message.slice(0, MAX_REFUSAL)}`;
      return { ok: false, reason: "ManualInstallPending", message };
    }
  }
  return name;
}
