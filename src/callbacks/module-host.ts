/**
 * One thread with a user's module, and the calls in it. It is ended from outside when it takes too much
 * memory, when it does not finish loading, and when it was retired and no call is left.
 *
 * Blame: a thread that ends, or time that is over, says little of one call while there were others: one
 * that loops for ever holds up all, and a timer of an earlier one may throw. So such an end counts as a
 * failure only of a call that was the only one its thread ever had; others were interrupted.
 */
import { Worker } from "node:worker_threads";
import { filesOf, type ModuleFunctions } from "../core/delivery/module-functions.ts";
import { threadLimitMegabytes } from "../core/delivery/module-memory.ts";
import type { AttemptOutcome } from "../core/delivery/transport.ts";
import type { CallEnd, ModuleCall } from "./module-call.ts";
import type { ThreadAnswer, ThreadInput, ThreadOutput, ThreadSetup } from "./module-messages.ts";
import { describeThrown } from "./module-problem.ts";

/** Milliseconds a module has to load, however short its calls must be. */
const LEAST_LOADING_MS = 10_000;
const MEMORY_LOOK_MS = 25;
/** Milliseconds after a call's signal was aborted until the call is given up: one that heeds it costs no thread. */
const GRACE_MS = 250;
/** Milliseconds a thread that was told to end is waited for: a native call, a child process say, cannot be cut off. */
const ENDING_MS = 2000;

const THREAD = new URL(
  import.meta.url.endsWith(".ts") ? "./module-thread.ts" : "./module-thread.js",
  import.meta.url,
);

export interface ModuleHostOptions {
  readonly functions: ModuleFunctions;
  readonly callback: string;
  readonly timeoutMs: number;
  readonly memoryMegabytes: number;
}

/** Why a thread ended, as an outcome shows it. */
interface Cause {
  readonly code: "module" | "exit" | "crashed" | "memory";
  readonly message: string;
}

const INTERRUPTED: AttemptOutcome = {
  kind: "interrupted",
  code: "interrupted",
  message: "the thread ended, or hung, with several calls in it; this one is tried again by itself",
};

export class ModuleHost {
  readonly #options: ModuleHostOptions;
  readonly #worker: Worker;
  readonly #calls = new Map<number, ModuleCall>();
  readonly #exited: Promise<void>;
  readonly #loading: NodeJS.Timeout;
  #memoryLook: NodeJS.Timeout | null = null;
  #ready = false;
  #taken = 0;
  #retired = false;
  #ending = false;
  #cause: Cause | null = null;

  constructor(options: ModuleHostOptions) {
    this.#options = options;
    this.#worker = startWorker(options);
    this.#worker.on("message", (output: ThreadOutput | null) => this.#told(output));
    this.#worker.on("error", (error: unknown) => {
      this.#cause ??= this.#crashed(error);
    });
    this.#exited = new Promise((resolve) => {
      this.#worker.once("exit", (code) => {
        this.#cause ??= this.#exitedWith(code);
        this.#end();
        resolve();
      });
    });
    const loadingMs = Math.max(options.timeoutMs, LEAST_LOADING_MS);
    this.#loading = setTimeout(() => {
      this.#end({ code: "module", message: `it did not finish loading within ${loadingMs / 1000} s` });
    }, loadingMs);
  }

  /** It takes no more calls: it was retired, has a call in it that was given up, or has ended. */
  get retired(): boolean {
    return this.#retired;
  }

  get idle(): boolean {
    return this.#calls.size === 0;
  }

  /** Calls the function as soon as the module is loaded. */
  take(call: ModuleCall): void {
    this.#taken += 1;
    const number = this.#taken;
    this.#calls.set(number, call);
    call.taken((end) => this.#settled(number, end));
    this.#memoryLook ??= setInterval(this.#lookAtMemory(), MEMORY_LOOK_MS);
    if (this.#ready) this.#begin(number, call);
  }

  /** Ends when no call is left. */
  retire(): void {
    this.#retired = true;
    if (this.idle) this.#end();
  }

  /** Ends now. Calls left in it are interrupted. Resolves when the thread is gone, or cannot be ended soon. */
  async end(): Promise<void> {
    this.#end();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ENDING_MS);
    });
    await Promise.race([this.#exited, late]);
    clearTimeout(timer);
  }

  /** The module may post as well: what is not ours is passed over. */
  #told(output: ThreadOutput | null): void {
    if (output?.kind === "Ready" && !this.#ready) {
      this.#ready = true;
      clearTimeout(this.#loading);
      for (const [number, call] of this.#calls) this.#begin(number, call);
    } else if (output?.kind === "NotLoaded") {
      this.#end({ code: "module", message: output.problem });
    } else if (output?.kind === "Returned" || output?.kind === "Threw") {
      this.#calls.get(output.call)?.settle(outcomeOf(output), "Answered");
    }
  }

  #begin(number: number, call: ModuleCall): void {
    this.#worker.postMessage({ call: number, ...call.request } satisfies ThreadInput);
    const { timeoutMs } = this.#options;
    const message = `${call.request.handler} did not answer within ${timeoutMs / 1000} s`;
    call.begun(timeoutMs + GRACE_MS, () => call.settle(this.#failure("timeout", message), "Unanswered"));
  }

  #settled(number: number, end: CallEnd): void {
    this.#calls.delete(number);
    if (end !== "Answered" && this.#ready) this.#retired = true; // the function may still be at it
    if (!this.idle) return;
    if (this.#memoryLook !== null) clearInterval(this.#memoryLook);
    this.#memoryLook = null;
    if (this.#retired) this.#end();
  }

  #end(cause: Cause | null = null): void {
    this.#cause ??= cause;
    this.#retired = true;
    if (this.#ending) return;
    this.#ending = true;
    clearTimeout(this.#loading);
    for (const call of this.#calls.values()) {
      if (this.#ready) call.settle(this.#ended(), "Unanswered");
      else call.settle(this.#notLoaded(), "Unjudged");
    }
    void this.#worker.terminate();
  }

  #ended(): AttemptOutcome {
    return this.#cause === null ? INTERRUPTED : this.#failure(this.#cause.code, this.#cause.message);
  }

  #notLoaded(): AttemptOutcome {
    if (this.#cause === null) return INTERRUPTED;
    const { message } = this.#cause;
    return {
      kind: "retryable",
      code: "module",
      message: `the module of callback ${this.#options.callback} is not loaded: ${message}. Correct the file; it is tried again`,
    };
  }

  #failure(code: string, message: string): AttemptOutcome {
    return this.#taken === 1 ? { kind: "retryable", code, message } : INTERRUPTED;
  }

  #crashed(error: unknown): Cause {
    if ((error as NodeJS.ErrnoException | null)?.code === "ERR_WORKER_OUT_OF_MEMORY") return this.#tooLarge();
    const thrown = describeThrown(error, filesOf(this.#options.functions));
    return { code: "crashed", message: `outside of a call the module threw ${thrown}` };
  }

  #exitedWith(code: number): Cause {
    const message = this.#ready
      ? `the module ended its thread (exit code ${code})`
      : "it ended before it was loaded: it calls process.exit, or waits for what never comes";
    return { code: "exit", message };
  }

  #tooLarge(): Cause {
    const { memoryMegabytes } = this.#options;
    return {
      code: "memory",
      message: `the module took far more memory than its ${memoryMegabytes} MiB (\`memoryMegabytes\`)`,
    };
  }

  #lookAtMemory(): () => void {
    const limit = threadLimitMegabytes(this.#options.memoryMegabytes) * 2 ** 20;
    let looking = false;
    return () => {
      if (looking) return;
      looking = true;
      const look = this.#worker.getHeapStatistics().then((heap) => {
        if (heap.used_heap_size + heap.external_memory > limit) this.#end(this.#tooLarge());
      });
      look
        .catch(() => undefined) // it does not run yet, or not any more
        .finally(() => {
          looking = false;
        });
    };
  }
}

function outcomeOf(answer: ThreadAnswer): AttemptOutcome {
  if (answer.kind === "Returned") return { kind: "acknowledged", code: "ok" };
  return { kind: answer.permanent ? "permanent" : "retryable", code: "thrown", message: answer.problem };
}

function startWorker({ functions, callback, timeoutMs, memoryMegabytes }: ModuleHostOptions): Worker {
  const { PG_EVENTS_DATABASE_URL: _, ...without } = process.env;
  // Classic settings hold the URL themselves, or read this variable while they are loaded.
  const env = functions.kind === "Functions" ? process.env : without;
  return new Worker(THREAD, {
    workerData: { functions, callback, timeoutMs } satisfies ThreadSetup,
    env,
    // Not the worker's own: what preloads it is not for the module (NODE_OPTIONS is). A .js file without a
    // package.json is guessed to be what it is, and needs no warning each time.
    execArgv: ["--disable-warning=MODULE_TYPELESS_PACKAGE_JSON"],
    resourceLimits: {
      // Far above what is allowed: one large allocation at V8's limit (a Map that grows, say) aborts the whole process.
      maxOldGenerationSizeMb: threadLimitMegabytes(memoryMegabytes) + 1024,
      maxYoungGenerationSizeMb: 16,
    },
  });
}
