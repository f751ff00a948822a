/**
 * The logins of a program that runs for long. What to log in with is read anew for each, so that a Secret
 * that changes counts at once; what the server has refused is not tried again too soon, and one login at a
 * time is made, so that the connections that a worker loses together cost one refusal.
 */
import type pg from "pg";
import type { PgEventsError } from "../core/errors.ts";
import type { DatabaseSettings } from "../core/settings/database.ts";
import { RefusedLogin } from "../core/settings/refused-login.ts";
import {
  clientConfig,
  connectDatabase,
  databaseError,
  GuardedClient,
  type GuardedConfig,
  poolOf,
} from "./connect.ts";

/** Milliseconds that a login waits for the one before it: a server that does not answer holds up nobody for long. */
const TURN_MS = 1000;

export class Logins {
  readonly #read: () => DatabaseSettings;
  readonly #refused = new RefusedLogin<PgEventsError>();
  #turn: Promise<void> = Promise.resolve();

  /** @param read what to log in with now; it does not throw */
  constructor(read: () => DatabaseSettings) {
    this.#read = read;
  }

  /** A connection of its own. @throws PgEventsError, at once when these credentials were just refused */
  connect(): Promise<pg.Client> {
    const settings = this.#read();
    return this.#inTurn(settings, () => connectDatabase(settings, "worker"));
  }

  /** A pool whose connections are made so. */
  createPool(max: number): pg.Pool {
    const read = this.#read;
    const inTurn = (settings: DatabaseSettings, login: () => Promise<void>) => this.#inTurn(settings, login);
    class Client extends GuardedClient {
      readonly #settings: DatabaseSettings;

      constructor({ onMade }: GuardedConfig = {}) {
        const settings = read();
        super({ ...clientConfig(settings, "worker"), ...(onMade === undefined ? {} : { onMade }) });
        this.#settings = settings;
      }

      override connect(): Promise<this>;
      override connect(callback: (error: Error) => void): void;
      override connect(callback?: (error: Error) => void): Promise<this> | undefined {
        const login = () =>
          new Promise<void>((resolve, reject) => {
            super.connect((error: Error | null) => (error ? reject(error) : resolve()));
          });
        const done = inTurn(this.#settings, login);
        if (callback === undefined) return done.then(() => this);
        done.then(() => callback(null as unknown as Error), callback);
        return undefined;
      }
    }
    return poolOf({ ...clientConfig(read(), "worker"), Client, max });
  }

  /** Lets something log in by itself. @throws what it throws, or the refusal of these credentials */
  async use<T>(work: (settings: DatabaseSettings) => Promise<T>): Promise<T> {
    const settings = this.#read();
    return this.#unlessRefused(settings, () => work(settings));
  }

  async #inTurn<T>(settings: DatabaseSettings, login: () => Promise<T>): Promise<T> {
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    const timer = setTimeout(resolve, TURN_MS);
    try {
      await before;
      return await this.#unlessRefused(settings, login);
    } finally {
      clearTimeout(timer);
      resolve();
    }
  }

  async #unlessRefused<T>(settings: DatabaseSettings, login: () => Promise<T>): Promise<T> {
    const credentials = JSON.stringify(settings);
    const refusal = this.#refused.recent(credentials, performance.now());
    if (refusal !== null) throw refusal;
    try {
      return await login();
    } catch (error) {
      const problem = databaseError(error, settings);
      if (problem.reason !== "AuthenticationFailed") throw error;
      this.#refused.note(credentials, problem, performance.now());
      throw problem;
    }
  }
}
