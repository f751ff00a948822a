/** Tells in the status how far a long build is, and ends one that is not wanted any more. */
import { assessBuilding } from "../core/reconcile/assess.ts";
import type { Progress } from "../postgres/apply.ts";
import { now, type Source, writeStatus } from "./status.ts";
import type { World } from "./world.ts";

/** Milliseconds between two writes. */
const WRITE_MS = 5000;

/** A build was ended for a newer spec, or a deletion: that comes next. */
export class Superseded extends Error {}

export class BuildProgress {
  /** Aborted once the source is being deleted, or its spec has changed. */
  readonly superseded: AbortSignal;
  readonly #ending = new AbortController();
  readonly #world: World;
  readonly #signal: AbortSignal;
  #written: Source;
  #writing: Promise<void> | null = null;
  #nextMs = performance.now() + WRITE_MS;

  constructor(world: World, object: Source, signal: AbortSignal) {
    this.#world = world;
    this.#written = object;
    this.#signal = signal;
    this.superseded = this.#ending.signal;
  }

  /** To be called after each table. */
  update(progress: Progress): void {
    const { namespace, name, uid, generation = 0 } = this.#written.metadata;
    const live = this.#world.source(`${namespace}/${name}`)?.metadata;
    if (live?.uid !== uid || live?.generation !== generation || live?.deletionTimestamp !== undefined)
      this.#ending.abort();
    if (this.#writing !== null || this.#ending.signal.aborted || performance.now() < this.#nextMs) return;
    this.#nextMs = performance.now() + WRITE_MS;
    const status = assessBuilding(generation, progress, this.#written.status, now());
    this.#writing = writeStatus(this.#world, this.#written, status, this.#signal)
      .then((written) => {
        this.#written = written;
      })
      .catch(() => undefined) // the build goes on; its end writes what is true
      .finally(() => {
        this.#writing = null;
      });
  }

  /** The source as it was written last. */
  async settled(): Promise<Source> {
    await this.#writing;
    return this.#written;
  }
}
