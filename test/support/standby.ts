/** A primary with a physical replica: two real servers that stream. */
import { spawnSync } from "node:child_process";
import { appendFileSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/runtime/embedded-postgres.ts";
import { connect, type TestEnd } from "./postgres.ts";
import { eventually } from "./processes.ts";

const SETTINGS = { fsync: "off", max_connections: "100", wal_keep_size: "1GB" };

export interface ReplicatedServer {
  readonly primary: EmbeddedPostgres;
  readonly replica: EmbeddedPostgres;
  /** Waits until the replica has everything that the primary has written. */
  caughtUp(): Promise<void>;
  /** Makes the replica the primary. */
  promote(): Promise<void>;
}

/** @param settings of both servers */
export async function startReplicated(
  t: TestEnd,
  settings: Readonly<Record<string, string>> = {},
): Promise<ReplicatedServer> {
  const directory = (name: string) => {
    const path = mkdtempSync(join(tmpdir(), `pg-events-${name}-`));
    t.after(() => rmSync(path, { recursive: true, force: true }));
    return path;
  };
  const ofPrimary = directory("primary");
  const ofReplica = directory("replica");
  const all = { ...SETTINGS, ...settings };
  const primary = await startEmbeddedPostgres({ dataDir: ofPrimary, settings: all });
  t.after(() => primary.stop("immediate"));
  await primary.kill();
  const copy = spawnSync("cp", ["-a", join(ofPrimary, "data"), ofReplica]);
  if (copy.status !== 0) throw new Error(String(copy.stderr));
  copyFileSync(join(ofPrimary, "password"), join(ofReplica, "password"));
  rmSync(join(ofReplica, "data/postmaster.pid"), { force: true });
  await primary.restart();
  const { host, port, user, password } = primary;
  writeFileSync(join(ofReplica, "data/standby.signal"), "");
  appendFileSync(
    join(ofReplica, "data/postgresql.auto.conf"),
    `primary_conninfo = 'host=${host} port=${port} user=${user} password=${password} application_name=replica'\n`,
  );
  const replica = await startEmbeddedPostgres({ dataDir: ofReplica, settings: all });
  t.after(() => replica.stop("immediate"));
  const onPrimary = await connect(t, primary.url);
  const caughtUp = async () => {
    const { rows } = await onPrimary.query<{ lsn: string }>("select pg_current_wal_insert_lsn() as lsn");
    const replayed = "select pg_last_wal_replay_lsn() >= $1 as replayed";
    const onReplica = await connect(t, replica.url);
    await eventually(async () => (await onReplica.query(replayed, [rows[0]?.lsn])).rows[0]?.replayed, {
      what: "the replica to catch up",
    });
    await onReplica.end();
  };
  await caughtUp();
  return {
    primary,
    replica,
    caughtUp,
    promote: async () => {
      const client = await connect(t, replica.url);
      await client.query("select pg_promote()");
      await client.end();
    },
  };
}
