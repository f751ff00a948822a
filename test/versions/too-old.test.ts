import assert from "node:assert/strict";
import { test } from "node:test";
import { databaseFromUrl } from "../../src/core/settings/database.ts";
import { buildCapture } from "../../src/postgres/build.ts";
import { removeCapture } from "../../src/postgres/removal.ts";
import { captureSpec } from "../support/capture-spec.ts";
import { TOO_OLD, useMajor } from "../support/postgres-versions.ts";

test("a server older than PostgreSQL 14 is refused by name, and there is nothing to remove from it", async (t) => {
  const server = await useMajor(t, TOO_OLD);
  if (server === null) return;
  const settings = databaseFromUrl(server.url, "the old server");
  const owner = "manifest:default/test";
  await assert.rejects(
    buildCapture(
      settings,
      { capture: captureSpec(), callbacks: ["a"], owner, version: "1" },
      { mode: "apply" },
    ),
    {
      code: "PGE_SERVER_TOO_OLD",
      reason: "UnsupportedServer",
      message: /^PostgreSQL 12\.\d+ is too old; 14 /,
    },
  );
  assert.deepEqual(await removeCapture(settings, { schemaName: "pgevents", owner }), {
    removed: false,
    tables: 0,
  });
});
