/** Whether files are still the ones that were loaded: a save, or a ConfigMap that was updated, makes others of them. */
import { statSync } from "node:fs";

/** Milliseconds between two looks while calls are under way. */
const LOOK_MS = 1000;

export class FileState {
  readonly #files: readonly string[];
  readonly #state: string;
  #lookedMs = performance.now();

  constructor(files: readonly string[]) {
    this.#files = files;
    this.#state = stateOf(files);
  }

  /** @param idle nothing else is to do: look in any case */
  changed(idle: boolean): boolean {
    const nowMs = performance.now();
    if (!idle && nowMs < this.#lookedMs + LOOK_MS) return false;
    this.#lookedMs = nowMs;
    return stateOf(this.#files) !== this.#state;
  }
}

function stateOf(files: readonly string[]): string {
  return files.map(fileState).join(" ");
}

function fileState(file: string): string {
  try {
    const { dev, ino, size, mtimeNs } = statSync(file, { bigint: true }); // of what links lead to
    return `${dev}:${ino}:${size}:${mtimeNs}`;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "unreadable";
  }
}
