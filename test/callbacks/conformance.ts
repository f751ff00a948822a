/**
 * What every transport must do, whatever it talks to. A transport's test gives a harness that starts
 * a real endpoint; `exerciseTransport` proves the contract of core/delivery/transport.ts on it.
 */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import type { AttemptOutcome, Transport } from "../../src/core/delivery/transport.ts";
import { stableEventId } from "../../src/core/event.ts";
import { changeEvent, ORIGIN } from "../support/change-event.ts";
import { eventually } from "../support/processes.ts";
import type { ReceivedEvent } from "../support/receiver.ts";

/** What the endpoint does from now on; `Gone` cannot be reached at all. */
export type Behaviour = "Accept" | "RefuseForNow" | "RefuseForGood" | "Silent" | "Gone";

export interface Endpoint {
  /** Made for ORIGIN. */
  readonly transport: Transport;
  behave(behaviour: Behaviour): Promise<void>;
  /** Events of messages that were accepted, in order of arrival. */
  accepted(): Promise<readonly ReceivedEvent[]>;
  /** Text of every message that came in; of a broker only of those that it accepted. */
  messages(): Promise<readonly string[]>;
}

export interface TransportHarness {
  /** What there is no such thing of at this kind of endpoint. */
  readonly never?: readonly Behaviour[];
  /** An endpoint that is gone can come back. Default: yes. */
  readonly comesBack?: boolean;
  /** A message that is not accepted can be seen. Default: yes. */
  readonly seesRefused?: boolean;
  /** Events of a batch are a message each. Default: no. */
  readonly messageAnEvent?: boolean;
  /** An endpoint that accepts, and a transport to it; both end with the test. */
  start(t: TestContext, options: { readonly timeoutSeconds: number }): Promise<Endpoint>;
}

/** Long enough never to pass in a test that is not about time. */
const AMPLE_SECONDS = 30;
const never = new AbortController().signal;

export function exerciseTransport(name: string, harness: TransportHarness): void {
  const start = (t: TestContext, timeoutSeconds = AMPLE_SECONDS) => harness.start(t, { timeoutSeconds });
  describe(`${name}: contract of a transport`, () => {
    exerciseContent(start, harness);
    exerciseFailures(start, harness);
    exerciseEnding(start, harness);
  });
}

type Start = (t: TestContext, timeoutSeconds?: number) => Promise<Endpoint>;

function exerciseContent(start: Start, { messageAnEvent = false }: TransportHarness): void {
  test("acknowledges what was accepted, with the stable id, the key and the images", async (t) => {
    const { transport, accepted } = await start(t);
    const event = changeEvent({
      operation: "Update",
      key: "[2]",
      oldKey: "[1]",
      old: '{"id":1}',
      new: '{"id":2}',
    });
    assertOutcome(await transport.deliver([event], never), "acknowledged");
    const [received, ...more] = (await accepted()) as [ReceivedEvent];
    assert.equal(more.length, 0);
    assert.equal(received.id, stableEventId(ORIGIN, event));
    assert.equal(received.subject, "public.orders/[2]");
    assert.equal(received.partitionkey, "public.orders/[2]");
    assert.deepEqual(
      [received.data.key, received.data.oldKey, received.data.old, received.data.new],
      [[2], [1], { id: 1 }, { id: 2 }],
    );
  });

  test("a batch arrives whole and in order", async (t) => {
    const { transport, accepted, messages } = await start(t);
    const count = Math.min(transport.maxEvents, 100);
    const events = Array.from({ length: count }, (_, index) => changeEvent({ id: String(index + 1) }));
    assertOutcome(await transport.deliver(events, never), "acknowledged");
    assert.equal((await messages()).length, messageAnEvent ? count : 1);
    assert.deepEqual(
      (await accepted()).map(({ id }) => id),
      events.map((event) => stableEventId(ORIGIN, event)),
    );
  });

  test("what is delivered again arrives with its mark, though the event was taken before", async (t) => {
    const { transport, accepted } = await start(t);
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
    const resent = { replay: 1, letter: { callback: "orders", error: "422: no", attempts: 2 } };
    assertOutcome(await transport.deliver([changeEvent({ resent })], never), "acknowledged");
    const [first, again] = await accepted();
    assert.equal(first?.pgeventsreplay, undefined);
    assert.equal(String(again?.pgeventsreplay), "true");
    assert.equal(again?.pgeventsdeadlettererror, "422: no");
    assert.equal(again?.id, first?.id);
  });

  test("rows arrive digit for digit", async (t) => {
    const { transport, messages } = await start(t);
    const row = '{"id":1,"total":12345678901234567890.1200,"name":"Ünï 🐘 \\"q\\" \\n"}';
    assertOutcome(await transport.deliver([changeEvent({ new: row })], never), "acknowledged");
    assert.ok((await messages())[0]?.includes(row));
  });

  test("names and keys with quotes, blanks, line breaks and emoji arrive as they are", async (t) => {
    const { transport, accepted } = await start(t);
    const table = 'a "b"\n% 🐘/é';
    assertOutcome(
      await transport.deliver([changeEvent({ table, key: '["x\\ny 🐘"]' })], never),
      "acknowledged",
    );
    const [received] = await accepted();
    assert.equal(received?.subject, `public.${table}/["x\\ny 🐘"]`);
    assert.deepEqual(received?.data.relation, { schema: "public", table });
  });

  test("an event of more than 1 MB arrives", async (t) => {
    const { transport, accepted } = await start(t);
    const text = "é".repeat(600_000);
    assertOutcome(
      await transport.deliver([changeEvent({ new: JSON.stringify({ text }) })], never),
      "acknowledged",
    );
    assert.equal((await accepted())[0]?.data.new?.text, text);
  });

  test("refuses more events than an attempt may carry, and none, instead of losing some", async (t) => {
    const { transport, messages } = await start(t);
    const tooMany = Array.from({ length: transport.maxEvents + 1 }, (_, index) =>
      changeEvent({ id: String(index + 1) }),
    );
    assertOutcome(await transport.deliver(tooMany, never), "permanent", "batch-size");
    assertOutcome(await transport.deliver([], never), "permanent", "batch-size");
    assert.equal((await messages()).length, 0);
  });

  test("many attempts at once are all acknowledged, each event once", async (t) => {
    const { transport, accepted } = await start(t);
    const events = Array.from({ length: 200 }, (_, index) => changeEvent({ id: String(index + 1) }));
    const outcomes = await Promise.all(events.map((event) => transport.deliver([event], never)));
    for (const outcome of outcomes) assertOutcome(outcome, "acknowledged");
    assert.deepEqual(
      (await accepted()).map(({ id }) => id).sort(),
      events.map((event) => stableEventId(ORIGIN, event)).sort(),
    );
  });
}

function exerciseFailures(start: Start, harness: TransportHarness): void {
  const { never: impossible = [], comesBack = true, seesRefused = true } = harness;
  const possible = (...behaviours: Behaviour[]) => !behaviours.some((one) => impossible.includes(one));

  if (possible("RefuseForNow"))
    test("what is refused for now is retryable, and carries the same id the next time", async (t) => {
      const { transport, behave, accepted, messages } = await start(t);
      await behave("RefuseForNow");
      assertOutcome(await transport.deliver([changeEvent()], never), "retryable");
      assert.equal((await accepted()).length, 0);
      await behave("Accept");
      assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
      const [first, second] = await messages();
      if (seesRefused) assert.equal(first, second);
      else assert.equal((await accepted())[0]?.id, stableEventId(ORIGIN, changeEvent()));
    });

  if (possible("RefuseForGood"))
    test("what is refused for good is permanent", async (t) => {
      const { transport, behave } = await start(t);
      await behave("RefuseForGood");
      assertOutcome(await transport.deliver([changeEvent()], never), "permanent");
    });

  test("no answer in time is retryable", async (t) => {
    const { transport, behave } = await start(t, 1);
    if (!seesRefused) await acknowledged(transport); // what follows is not the time it takes to connect
    await behave("Silent");
    assertOutcome(await transport.deliver([changeEvent()], never), "retryable", "timeout");
    await behave("Accept");
    await acknowledged(transport);
  });

  test("an outage is retryable, and over when the endpoint is back", async (t) => {
    const { transport, behave } = await start(t);
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
    await behave("Gone");
    assertOutcome(await transport.deliver([changeEvent()], never), "retryable");
    if (!comesBack) return;
    await behave("Accept");
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
  });

  test("failures say what happened and show nothing of the row", async (t) => {
    const { transport, behave } = await start(t);
    for (const behaviour of ["RefuseForNow", "RefuseForGood", "Gone"] as const) {
      if (!possible(behaviour)) continue;
      await behave(behaviour);
      const outcome = await transport.deliver([changeEvent({ new: '{"secret":"4711"}' })], never);
      assert.notEqual(outcome.kind, "acknowledged");
      assert.match((outcome as { message: string }).message, /\w+ \w+/);
      assert.doesNotMatch(JSON.stringify(outcome), /4711/);
    }
  });
}

function exerciseEnding(start: Start, { seesRefused = true }: TransportHarness): void {
  test("an abort ends an attempt under way at once", async (t) => {
    const { transport, behave, messages } = await start(t);
    await behave("Silent");
    const abort = new AbortController();
    const outcome = transport.deliver([changeEvent()], abort.signal);
    if (seesRefused) {
      await eventually(async () => (await messages()).length === 1, { what: "the attempt to arrive" });
    }
    abort.abort();
    assertOutcome(await outcome, "retryable", "aborted");
  });

  test("an abort with a reason of its own is an abort too", async (t) => {
    const { transport, behave } = await start(t);
    await behave("Silent");
    const abort = new AbortController();
    const outcome = transport.deliver([changeEvent()], abort.signal);
    abort.abort(new Error("lease lost"));
    assertOutcome(await outcome, "retryable", "aborted");
  });

  test("nothing is sent once the signal is aborted, nor of attempts that still waited to be sent", async (t) => {
    const { transport, messages } = await start(t);
    const abort = new AbortController();
    const waiting = transport.deliver([changeEvent({ id: "1" })], abort.signal);
    abort.abort();
    assertOutcome(await waiting, "retryable", "aborted");
    assertOutcome(await transport.deliver([changeEvent({ id: "2" })], abort.signal), "retryable", "aborted");
    assertOutcome(await transport.deliver([changeEvent({ id: "3" })], never), "acknowledged");
    assert.equal((await messages()).length, 1);
  });

  test("close lets attempts under way finish; after it nothing is sent", async (t) => {
    const { transport, accepted } = await start(t);
    const underWay = Array.from({ length: 10 }, (_, index) =>
      transport.deliver([changeEvent({ id: String(index + 1) })], never),
    );
    const closed = transport.close();
    for (const outcome of await Promise.all(underWay)) assertOutcome(outcome, "acknowledged");
    await closed;
    assertOutcome(await transport.deliver([changeEvent()], never), "retryable", "closed");
    assert.equal((await accepted()).length, 10);
    await transport.close();
  });

  test("close does not wait for attempts that were aborted", async (t) => {
    const { transport, behave } = await start(t);
    await behave("Silent");
    const abort = new AbortController();
    const outcome = transport.deliver([changeEvent()], abort.signal);
    abort.abort();
    assertOutcome(await outcome, "retryable", "aborted");
    await transport.close();
  });
}

/** Attempts until one is acknowledged. */
async function acknowledged(transport: Transport): Promise<void> {
  await eventually(async () => (await transport.deliver([changeEvent()], never)).kind === "acknowledged");
}

export function assertOutcome(outcome: AttemptOutcome, kind: AttemptOutcome["kind"], code?: string): void {
  assert.equal(outcome.kind, kind, JSON.stringify(outcome));
  if (code !== undefined) assert.equal(outcome.code, code, JSON.stringify(outcome));
}
