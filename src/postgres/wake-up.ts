/**
 * Knows when it is worth reading the outbox. A worker that waits holds the wake-up lock exclusively;
 * a writer that cannot get the lock shared sends a NOTIFY. A worker may wait only after it got the
 * lock and then read everything there was: a writer either held the shared lock, so that the worker did
 * not get it, or sees that the worker waits and wakes it.
 *
 *   Awake ─ lock granted ─► Armed ─ many notifications ─► Awake (lock released)
 *     └─ lock refused: a writer is at work ─► poll
 *
 * While notifications are few the lock is kept, so that an event costs one read, and not the lock as well;
 * when they are many it is released, because NOTIFY makes commits wait for each other.
 *
 * Where another replica sleeps (it holds the lock), its writers' NOTIFY reaches this one as well; it looks
 * again soon all the same, because that replica may let go of the lock unnoticed.
 * Behind a transaction pooler LISTEN does not last, and where transactions may be prepared writers send no
 * NOTIFY (notify_worker in sql/functions_capture.sql); then nothing is ever armed and readers poll.
 * A wake-up is a hint: readers poll every few seconds all the same.
 */
import type { Client } from "pg";
import type { CaptureNames } from "../core/capture/names.ts";
import { type HolderSession, LANES_CHANGED } from "./callback-lease.ts";
import { endSoon, PROMPT } from "./silent-connections.ts";

/** Milliseconds between looks whether the connection is still there: nothing comes on it for as long as nothing happens. */
const LOOK_MS = 10_000;
/** So many notifications within this time (milliseconds) are many. */
const MANY = 50;
const MANY_WITHIN_MS = 100;

export class WakeUp {
  readonly #names: CaptureNames;
  readonly #connect: () => Promise<Client>;
  readonly #onError: (error: unknown) => void;
  #client: Client | null = null;
  #connecting: Promise<void> | null = null;
  #arming: Promise<boolean> | null = null;
  #holdsLock = false;
  /** Grows with each arming; 0 while Awake. */
  #armed = 0;
  #armings = 0;
  /** Notifications since then. */
  #notified = 0;
  #notifiedSinceMs = 0;
  #polls = false;
  #closed = false;
  #session: HolderSession | null = null;
  readonly #waiters = new Set<() => void>();
  #onLanesChanged: () => void = () => undefined;

  /** @param onError told once for each lost connection; a new one is made on the next `arm` */
  constructor(connect: () => Promise<Client>, names: CaptureNames, onError: (error: unknown) => void) {
    this.#connect = connect;
    this.#names = names;
    this.#onError = onError;
  }

  /** The session that shows others this worker lives; null behind a pooler or while not connected. */
  get session(): HolderSession | null {
    return this.#session;
  }

  /** Wake-ups do not work here: readers poll. */
  get polls(): boolean {
    return this.#polls;
  }

  /**
   * A number of its own for each time Armed was reached, and for each notification since; 0 while Awake. A read that
   * leaves nothing allows to wait only if this was the same number, not 0, before and after it.
   */
  get armed(): number {
    return this.#armed;
  }

  /** Connects and listens. @throws what the connection meets */
  async open(): Promise<void> {
    if (this.#client !== null || this.#closed) return;
    this.#connecting ??= this.#open().finally(() => {
      this.#connecting = null;
    });
    await this.#connecting;
  }

  /**
   * Armed by the lock of another worker. When that one wakes and lets go of it just then, writers notify
   * nobody: wait briefly only.
   */
  get relies(): boolean {
    return this.#armed > 0 && !this.#holdsLock;
  }

  /**
   * Tries to reach Armed. After true the caller must read once more before it waits.
   * Never rejects: without a connection it is false, and the caller polls.
   */
  async arm(): Promise<boolean> {
    if (this.#armed > 0) return true;
    this.#arming ??= this.#arm().finally(() => {
      this.#arming = null;
    });
    return this.#arming;
  }

  /** Calls this when another worker says that lanes are to be had, or wanted. */
  onLanesChanged(listener: () => void): void {
    this.#onLanesChanged = listener;
  }

  /** Waits for a wake-up, or `timeoutMs`, or the signal; never rejects. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", finish);
        this.#waiters.delete(finish);
        resolve();
      };
      const timer = setTimeout(finish, timeoutMs);
      signal.addEventListener("abort", finish);
      this.#waiters.add(finish);
      if (signal.aborted) finish();
    });
  }

  /** Lets every waiting reader look again; others that sleep on the same lock are not told. */
  wakeReaders(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }

  async close(): Promise<void> {
    this.#closed = true;
    const client = this.#client;
    this.#forget();
    if (client !== null) await endSoon(client);
  }

  async #open(): Promise<void> {
    const client = await this.#connect();
    let failed = false;
    const lost = (error: unknown) => {
      if (failed) return; // a cut connection raises error twice, then end
      failed = true;
      clearInterval(looking);
      void endSoon(client);
      if (this.#client === client) {
        this.#forget();
        if (!this.#closed) this.#onError(error);
        this.wakeReaders();
      }
    };
    const looking = setInterval(() => {
      client.query({ text: "select 1", ...PROMPT }).catch(lost);
    }, LOOK_MS);
    client.on("error", lost);
    client.on("end", () => lost(new Error("the wake-up connection ended")));
    client.on("notification", ({ payload }) =>
      payload === LANES_CHANGED ? this.#onLanesChanged() : this.#wake(),
    );
    await client.query({ text: `listen ${this.#names.channel}`, ...PROMPT });
    const { rows } = await client.query<{
      listens: boolean;
      prepares: boolean;
      pid: number;
      started: string;
    }>({
      text: `select $1 = any (array(select pg_catalog.pg_listening_channels())) as listens,
          pg_catalog.current_setting('max_prepared_transactions') <> '0' as prepares, pid, backend_start::text as started
        from pg_catalog.pg_stat_activity where pid = pg_catalog.pg_backend_pid()`,
      values: [this.#names.channel],
      ...PROMPT,
    });
    const row = rows[0];
    this.#polls = row?.listens !== true || row.prepares;
    this.#session = row?.listens === true ? { pid: row.pid, startedAt: row.started } : null;
    this.#client = client;
  }

  async #arm(): Promise<boolean> {
    try {
      await this.open();
      const client = this.#client;
      if (client === null || this.#polls) return false;
      const [lockClass, lockObject] = this.#names.wakeLock;
      const { rows } = await client.query<{ mine: boolean; theirs: boolean }>({
        text: LOCK_QUERY,
        values: [lockClass, lockObject],
        ...PROMPT,
      });
      if (this.#client !== client) return false;
      this.#holdsLock = rows[0]?.mine === true;
      if (!this.#holdsLock && rows[0]?.theirs !== true) return false;
      this.#reach();
      return true;
    } catch (error) {
      this.#onError(error);
      return false;
    }
  }

  #reach(): void {
    this.#armings += 1;
    this.#armed = this.#armings;
  }

  #wake(): void {
    const many = this.#countNotification();
    if (this.#holdsLock && !many) this.#reach();
    else {
      this.#armed = 0;
      if (this.#holdsLock) this.#unlock();
    }
    this.wakeReaders();
  }

  #countNotification(): boolean {
    const nowMs = performance.now();
    if (nowMs - this.#notifiedSinceMs > MANY_WITHIN_MS) {
      this.#notifiedSinceMs = nowMs;
      this.#notified = 0;
    }
    this.#notified += 1;
    return this.#notified > MANY;
  }

  #unlock(): void {
    this.#holdsLock = false;
    this.#client
      ?.query("select pg_catalog.pg_advisory_unlock($1, $2)", [...this.#names.wakeLock])
      .catch((error: unknown) => this.#onError(error));
  }

  #forget(): void {
    this.#client = null;
    this.#session = null;
    this.#armed = 0;
    this.#holdsLock = false;
  }
}

/**
 * `mine`: the lock was granted. `theirs`: another worker's session holds it exclusively, so writers
 * notify; told from writers, who hold it shared, by the lock table.
 */
const LOCK_QUERY = `
  select attempt.mine, not attempt.mine and exists (
    select from pg_catalog.pg_locks
    where locktype = 'advisory' and mode = 'ExclusiveLock' and granted
      and database = (select oid from pg_catalog.pg_database where datname = current_database())
      and classid = ($1::bigint & 4294967295)::oid and objid = $2::integer::oid and objsubid = 2) as theirs
  from (select pg_catalog.pg_try_advisory_lock($1::integer, $2::integer) as mine offset 0) as attempt`;
