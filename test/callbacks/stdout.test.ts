import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { describe, type TestContext, test } from "node:test";
import { setImmediate as immediate } from "node:timers/promises";
import { StdoutTransport } from "../../src/callbacks/stdout.ts";
import { type CallbackSpec, callbackSchema } from "../../src/core/api/callback.ts";
import { structuredBody } from "../../src/core/delivery/cloudevents.ts";
import { changeEvent, ORIGIN } from "../support/change-event.ts";
import { eventually } from "../support/processes.ts";
import type { ReceivedEvent } from "../support/receiver.ts";
import { assertOutcome, exerciseTransport } from "./conformance.ts";

const never = new AbortController().signal;
const event = changeEvent();

/** Writes its input to its output, so that what came through the pipe can be seen. */
const ECHO = "process.stdin.pipe(process.stdout)";
const FILLER = "filler";

exerciseTransport("stdout", {
  never: ["RefuseForNow", "RefuseForGood"],
  comesBack: false,
  seesRefused: false,
  messageAnEvent: true,
  start: async (t, { timeoutSeconds }) => {
    const { transport, reader, lines } = readByProcess(t, { timeoutSeconds });
    return {
      transport,
      accepted: async () => {
        await settled(lines);
        return lines().map((line) => ({ ...(JSON.parse(line) as ReceivedEvent), callbackPath: "" }));
      },
      messages: async () => {
        await settled(lines);
        return lines();
      },
      behave: async (next) => {
        if (next === "Accept") reader.kill("SIGCONT");
        else if (next === "Silent") await stall(reader);
        else {
          reader.kill("SIGKILL");
          await once(reader, "exit");
        }
      },
    };
  },
});

describe("lines", () => {
  test("are the structured event, also of many and large events at once, never mixed", async (t) => {
    const { transport, lines } = readByProcess(t, {});
    const text = "é".repeat(100_000);
    const events = Array.from({ length: 50 }, (_, index) =>
      changeEvent({ id: String(index + 1), new: JSON.stringify({ text, index }) }),
    );
    const outcomes = await Promise.all(events.map((one) => transport.deliver([one], never)));
    for (const outcome of outcomes) assertOutcome(outcome, "acknowledged", "written");
    await eventually(() => lines().length >= 50 && lines().at(-1)?.endsWith("}"));
    const wanted = events.map((one) => structuredBody(ORIGIN, one));
    assert.ok(lines().every((line, index) => line === wanted[index]));
  });

  test("that nobody reads are kept out of memory: attempts fail while one that was given up is left", async (t) => {
    const { transport, reader } = readByProcess(t, { timeoutSeconds: 1 });
    await stall(reader);
    assertOutcome(await transport.deliver([event], never), "retryable", "timeout");
    assertOutcome(await transport.deliver([event], never), "retryable", "stalled");
    reader.kill("SIGCONT");
    await eventually(async () => (await transport.deliver([event], never)).kind === "acknowledged");
  });

  test("to a reader that is gone say so", async (t) => {
    const { transport, reader } = readByProcess(t, {});
    reader.kill("SIGKILL");
    await once(reader, "exit");
    await eventually(async () => {
      const outcome = await transport.deliver([event], never);
      return outcome.kind === "retryable" && /what read the standard output is gone/.test(outcome.message);
    });
  });
});

interface Reading {
  readonly transport: StdoutTransport;
  readonly reader: ChildProcess;
  /** Lines that came through. */
  readonly lines: () => string[];
}

/** A transport whose output is a pipe that another process reads. */
function readByProcess(t: TestContext, delivery: Partial<CallbackSpec["delivery"]>): Reading {
  const reader = spawn(process.execPath, ["-e", ECHO], { stdio: ["pipe", "pipe", "inherit"] });
  let text = "";
  reader.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  const limits = callbackSchema.parse({ name: "orders", stdout: {}, delivery });
  const transport = new StdoutTransport({ limits, origin: ORIGIN, output: reader.stdin });
  reader.stdin.on("error", () => undefined); // the filler's
  t.after(async () => {
    reader.kill("SIGKILL");
    await transport.close();
  });
  const lines = () => text.split("\n").filter((line) => line !== "" && !line.startsWith(FILLER));
  return { transport, reader, lines };
}

/** The pipe takes nothing more. */
async function stall(reader: ChildProcess): Promise<void> {
  reader.kill("SIGSTOP");
  await eventually(() => {
    const stat = readFileSync(`/proc/${reader.pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("T");
  });
  reader.stdin?.write(`${FILLER.repeat(200_000)}\n`);
}

/** What was acknowledged is in the pipe: wait until the reader has shown it. */
async function settled(lines: () => string[]): Promise<void> {
  for (let seen = -1, quiet = 0; quiet < 3; ) {
    await immediate();
    await eventually(() => new Promise((resolve) => setTimeout(() => resolve(true), 50)));
    quiet = lines().length === seen ? quiet + 1 : 0;
    seen = lines().length;
  }
}
