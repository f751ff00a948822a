import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { startProcess } from "../support/processes.ts";

const ROOT = join(import.meta.dirname, "../..");

/** Delivers one event, in a process in which no package of these scopes can be found. */
const PROGRAM = `
  import { registerHooks } from "node:module";
  registerHooks({
    resolve(specifier, context, next) {
      if (!/^@(nats-io|platformatic)\\//.test(specifier)) return next(specifier, context);
      throw Object.assign(new Error("Cannot find package"), { code: "ERR_MODULE_NOT_FOUND" });
    },
  });
  const { createTransport } = await import("./src/callbacks/registry.ts");
  const { callbackSchema } = await import("./src/core/api/callback.ts");
  const { changeEvent } = await import("./test/support/change-event.ts");
  const { transportDependencies } = await import("./test/callbacks/http-endpoint.ts");
  const callback = callbackSchema.parse({ name: "orders", ...JSON.parse(process.argv[1]) });
  const transport = createTransport(callback, transportDependencies());
  console.log(JSON.stringify(await transport.deliver([changeEvent()], new AbortController().signal)));
`;

describe("a client that is not installed", () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ nats: { servers: ["nats://127.0.0.1:9"] } }, "@nats-io/transport-node @nats-io/jetstream"],
    [{ kafka: { brokers: ["127.0.0.1:9"], topic: "t" } }, "@platformatic/kafka"],
  ];
  for (const [transport, packages] of cases) {
    test(`is named, and how to install it: ${packages}`, async (t) => {
      const args = ["--input-type=module", "-e", PROGRAM, JSON.stringify(transport)];
      const child = startProcess(t, process.execPath, args, { cwd: ROOT });
      assert.equal((await child.exited).code, 0, child.stderr);
      assert.deepEqual(JSON.parse(child.stdout), {
        kind: "retryable",
        code: "PGE_CLIENT_MISSING",
        message: `The client for this callback is not installed: ${packages}.`,
      });
    });
  }
});
