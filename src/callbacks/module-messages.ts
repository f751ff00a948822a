/** What the relay and the thread of a module callback say to each other. */
import type { ModuleFunctions } from "../core/delivery/module-functions.ts";

/** What a thread is started with. */
export interface ThreadSetup {
  readonly functions: ModuleFunctions;
  /** Name of the callback. */
  readonly callback: string;
  /** Milliseconds for a call. */
  readonly timeoutMs: number;
}

/** One call of one of the functions. */
export interface CallRequest {
  readonly handler: "onData" | "onSchemaChange";
  /** The id of the CloudEvent: the same for every attempt. */
  readonly eventId: string;
  /** The event as JSON, digit for digit as it is in the database. */
  readonly json: string;
}

/** To the thread; `call` is a number of the relay's. */
export type ThreadInput = CallRequest & { readonly call: number };

/** From the thread. The texts are made by module-problem.ts. */
export type ThreadOutput =
  | { readonly kind: "Ready" }
  | { readonly kind: "NotLoaded"; readonly problem: string }
  | ThreadAnswer;

/** What came of a call. */
export type ThreadAnswer =
  | { readonly kind: "Returned"; readonly call: number }
  | { readonly kind: "Threw"; readonly call: number; readonly problem: string; readonly permanent: boolean };
