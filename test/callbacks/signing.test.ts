import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { createTransport } from "../../src/callbacks/registry.ts";
import { FORMATS } from "../../src/core/api/callback.ts";
import { stableEventId } from "../../src/core/event.ts";
import { changeEvent, ORIGIN } from "../support/change-event.ts";
import { eventually } from "../support/processes.ts";
import { type ReceivedRequest, startReceiver } from "../support/receiver.ts";
import { assertOutcome } from "./conformance.ts";
import { httpTransport, parseCallback, transportDependencies } from "./http-endpoint.ts";

const never = new AbortController().signal;
const event = changeEvent({ new: '{"id":1,"text":"Ünï 🐘"}' });
const signing = {
  secretKeyRef: { name: "hook", key: "key" },
  previousSecretKeyRef: { name: "hook", key: "previous" },
};
const newKey = () => `whsec_${randomBytes(24).toString("base64")}`;

/** As a receiver does it, by the public package. @throws when the signature is not this key's */
function verify(key: string, { body, headers }: ReceivedRequest): void {
  new Webhook(key).verify(body, headers as Record<string, string>);
}

describe("requests are signed as Standard Webhooks has it", () => {
  for (const format of FORMATS) {
    test(`${format}: with both keys, and anything else does not verify`, async (t) => {
      const receiver = await startReceiver(t);
      const keys = { "hook/key": newKey(), "hook/previous": `${newKey()}\n` };
      const transport = httpTransport(t, receiver.url, { http: { format, signing }, secrets: keys });
      assertOutcome(await transport.deliver([event], never), "acknowledged");
      const request = receiver.requests[0] ?? assert.fail();
      for (const key of Object.values(keys)) verify(key.trim(), request);
      assert.throws(() => verify(newKey(), request));
      assert.throws(() => verify(keys["hook/key"], { ...request, body: `${request.body} ` }));
      assert.equal(request.headers["webhook-id"], stableEventId(ORIGIN, event));
    });
  }

  test("with the same id at each attempt, also of a batch, and the time of the attempt", async (t) => {
    const receiver = await startReceiver(t, { respond: (_, index) => (index === 0 ? 503 : 204) });
    const key = newKey();
    const http = { format: "CloudEventsBatch", signing: { secretKeyRef: signing.secretKeyRef } } as const;
    const transport = httpTransport(t, receiver.url, { http, secrets: { "hook/key": key } });
    const batch = [event, changeEvent({ id: "2" })];
    assertOutcome(await transport.deliver(batch, never), "retryable");
    assertOutcome(await transport.deliver(batch, never), "acknowledged");
    const [first, second] = receiver.requests.map(({ headers }) => headers["webhook-id"]);
    assert.equal(first, `${stableEventId(ORIGIN, event)}_2`);
    assert.equal(second, first);
    for (const request of receiver.requests) verify(key, request);
  });

  test("with the key that the Secret has now", async (t) => {
    const receiver = await startReceiver(t);
    const secrets = { "hook/key": newKey() };
    const http = { signing: { secretKeyRef: signing.secretKeyRef } };
    const transport = httpTransport(t, receiver.url, { http, secrets });
    await transport.deliver([event], never);
    const next = newKey();
    secrets["hook/key"] = next;
    await eventually(async () => {
      await transport.deliver([event], never);
      verify(next, receiver.requests.at(-1) ?? assert.fail());
      return true;
    });
  });

  const unusable: [string, string, RegExp][] = [
    ["is too short", `whsec_${randomBytes(23).toString("base64")}`, /holds a key of fewer than 24 bytes/],
    ["is not base64", "whsec_hunter2!", /is not whsec_ and base64/],
    ["is empty", " ", /is empty/],
  ];
  for (const [what, value, message] of unusable) {
    test(`not with a key that ${what}: it is refused before the first event, unshown`, () => {
      const callback = parseCallback("http://127.0.0.1/", {
        signing: { secretKeyRef: signing.secretKeyRef },
      });
      assert.throws(
        () => createTransport(callback, transportDependencies({ readSecret: () => value })),
        (error: Error & { code?: string }) =>
          error.code === "PGE_SECRET_INVALID" &&
          message.test(error.message) &&
          !/hunter2/.test(error.message),
      );
    });
  }
});

describe("traceparent", () => {
  const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const traced = (traceparent: unknown) =>
    changeEvent({ context: JSON.stringify({ session_user: "a", traceparent }) });

  test("of the writer goes along with its event", async (t) => {
    const receiver = await startReceiver(t);
    const transport = httpTransport(t, receiver.url);
    await transport.deliver([traced(trace)], never);
    assert.equal(receiver.requests[0]?.headers.traceparent, trace);
  });

  test("that is none does not", async (t) => {
    const receiver = await startReceiver(t);
    const transport = httpTransport(t, receiver.url);
    for (const value of [null, "", "00-x", `${trace}\r\nevil: yes`, 7])
      await transport.deliver([traced(value)], never);
    await transport.deliver([event], never);
    assert.equal(receiver.requests.length, 6);
    for (const { headers } of receiver.requests) {
      assert.equal(headers.traceparent, undefined);
      assert.equal(headers.evil, undefined);
    }
  });
});
