import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type ServerOpts, type Socket } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { setImmediate as immediate } from "node:timers/promises";
import { type CloudEvent, HTTP } from "cloudevents";
import { createTransport } from "../../src/callbacks/registry.ts";
import { FORMATS } from "../../src/core/api/callback.ts";
import { classicPayload } from "../../src/core/delivery/classic.ts";
import type { Transport } from "../../src/core/delivery/transport.ts";
import { stableEventId } from "../../src/core/event.ts";
import { changeEvent, ORIGIN } from "../support/change-event.ts";
import { eventually } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";
import { assertOutcome, type Behaviour, exerciseTransport } from "./conformance.ts";
import { answerFor, httpTransport, parseCallback, transportDependencies } from "./http-endpoint.ts";

const never = new AbortController().signal;

const CLOUD_EVENTS = FORMATS.filter((format) => format !== "Classic");

for (const format of CLOUD_EVENTS) {
  exerciseTransport(`HTTP, ${format}`, {
    start: async (t, { timeoutSeconds }) => {
      let behaviour: Behaviour = "Accept";
      const receiver = await startReceiver(t, { respond: () => answerFor(behaviour) });
      return {
        transport: httpTransport(t, `${receiver.url}/events`, {
          http: { format },
          delivery: { timeoutSeconds },
        }),
        accepted: async () => receiver.events,
        messages: async () =>
          receiver.requests.map(({ headers, body }) => `${headers["ce-id"] ?? ""}${body}`),
        behave: async (next) => {
          if (next === "Gone") await receiver.close();
          if (behaviour === "Gone" && next !== "Gone") await receiver.reopen();
          behaviour = next;
        },
      };
    },
  });
}

describe("requests", () => {
  const contentTypes = [
    "application/json",
    "application/cloudevents+json; charset=utf-8",
    "application/cloudevents-batch+json; charset=utf-8",
  ];
  for (const [index, format] of CLOUD_EVENTS.entries()) {
    test(`${format}: what a server gets is a CloudEvent to the public CloudEvents package`, async (t) => {
      const receiver = await startReceiver(t);
      const transport = httpTransport(t, receiver.url, { http: { format } });
      const event = changeEvent({ id: "42", operation: "Delete", old: '{"id":1}', new: null });
      assertOutcome(await transport.deliver([event], never), "acknowledged", "204");
      const { headers, body } = receiver.requests[0] ?? assert.fail();
      assert.equal(headers["content-type"], contentTypes[index]);
      const [parsed] = [HTTP.toEvent({ headers, body })].flat() as [CloudEvent<{ old: unknown }>];
      assert.ok(parsed.validate());
      assert.equal(parsed.id, stableEventId(ORIGIN, event));
      assert.equal(parsed.type, "dev.pgevents.row.deleted");
      assert.equal(parsed.source, ORIGIN.source);
      assert.deepEqual(parsed.data?.old, { id: 1 });
    });
  }

  test("Classic: what a server gets is the JSON object of the Python tool", async (t) => {
    const receiver = await startReceiver(t);
    const transport = httpTransport(t, receiver.url, { http: { format: "Classic" } });
    const event = changeEvent({ operation: "Delete", old: '{"id":1}', new: null });
    assertOutcome(await transport.deliver([event], never), "acknowledged", "204");
    const { headers, body } = receiver.requests[0] ?? assert.fail();
    assert.deepEqual([headers["content-type"], body], ["application/json", classicPayload(event)]);
    assert.equal(headers["ce-id"], undefined);
  });

  test("go by POST to the path and query of the address, with the agent's name", async (t) => {
    const receiver = await startReceiver(t);
    const transport = httpTransport(t, `${receiver.url}/a%20b/c?token=x&y=%C3%A9`);
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
    const { method, path, headers } = receiver.requests[0] ?? assert.fail();
    assert.deepEqual([method, path], ["POST", "/a%20b/c?token=x&y=%C3%A9"]);
    assert.equal(headers["user-agent"], "pg-events/1.2.3");
    assert.equal(headers.host, new URL(receiver.url).host);
  });

  test("go over connections that are kept, as many as requests may be under way", async (t) => {
    const receiver = await startReceiver(t);
    const transport = httpTransport(t, receiver.url, { delivery: { maxInFlight: 3 } });
    for (let id = 1; id <= 20; id += 1) await deliverAndSettle(transport);
    assert.equal(receiver.connections, 1);
    await Promise.all(Array.from({ length: 60 }, () => transport.deliver([changeEvent()], never)));
    assert.equal(receiver.connections, 3);
  });

  test("move to a new connection when theirs is old, so that a name's new addresses are used", async (t) => {
    const receiver = await startReceiver(t);
    const transport = httpTransport(t, receiver.url);
    t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
    await deliverAndSettle(transport);
    t.mock.timers.tick(299_000);
    await deliverAndSettle(transport);
    assert.equal(receiver.connections, 1);
    t.mock.timers.tick(2000);
    await deliverAndSettle(transport);
    assert.equal(receiver.connections, 2);
  });

  /** The client frees a connection one turn of the event loop after the answer. */
  async function deliverAndSettle(transport: Transport): Promise<void> {
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
    for (let turn = 0; turn < 2; turn += 1) await immediate();
  }

  test("go straight to the receiver, whatever proxy the environment names", async (t) => {
    const receiver = await startReceiver(t);
    const names = ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "NODE_USE_ENV_PROXY"];
    const before = names.map((name) => process.env[name]);
    t.after(() => {
      for (const [index, name] of names.entries()) {
        if (before[index] === undefined) delete process.env[name];
        else process.env[name] = before[index];
      }
    });
    for (const name of names) process.env[name] = name.startsWith("NODE") ? "1" : "http://127.0.0.1:9";
    assertOutcome(await httpTransport(t, receiver.url).deliver([changeEvent()], never), "acknowledged");
  });
});

describe("headers", () => {
  const headers = [
    { name: "X-Plain", value: "yes" },
    { name: "Authorization", secretKeyRef: { name: "token", key: "header" } },
  ];

  test("of the manifest and of Secrets are sent", async (t) => {
    const receiver = await startReceiver(t);
    const transport = httpTransport(t, receiver.url, {
      http: { headers },
      secrets: { "token/header": "Bearer one\n" },
    });
    await transport.deliver([changeEvent()], never);
    const sent = receiver.requests[0]?.headers;
    assert.deepEqual([sent?.["x-plain"], sent?.authorization], ["yes", "Bearer one"]);
  });

  test("follow a Secret that changes", async (t) => {
    const receiver = await startReceiver(t);
    const secrets = { "token/header": "Bearer one" };
    const transport = httpTransport(t, receiver.url, { http: { headers }, secrets });
    await transport.deliver([changeEvent()], never);
    secrets["token/header"] = "Bearer two";
    await eventually(async () => {
      await transport.deliver([changeEvent()], never);
      return receiver.requests.at(-1)?.headers.authorization === "Bearer two";
    });
  });

  test("with a Secret that goes while the worker runs fail for now, naming the Secret and no value", async (t) => {
    const receiver = await startReceiver(t);
    const secrets: Record<string, string> = { "token/header": "Bearer one" };
    const transport = httpTransport(t, receiver.url, { http: { headers }, secrets });
    secrets["token/header"] = "Bearer\r\nevil: yes";
    const outcome = await eventually(async () => {
      const outcome = await transport.deliver([changeEvent()], never);
      return outcome.kind === "retryable" ? outcome : null;
    });
    assertOutcome(outcome, "retryable", "PGE_SECRET_INVALID");
    assert.match(outcome.message, /Key header of Secret token, used by callback orders, holds a line break/);
    assert.doesNotMatch(outcome.message, /Bearer|evil/);
  });

  const unusable: [string, string | undefined, RegExp][] = [
    ["missing", undefined, /Key header of Secret token, used by callback orders, is missing\./],
    ["empty", " \n", /is empty\./],
    ["more than a line", "a\nb", /holds a line break/],
    ["text in PEM form", "-----BEGIN X-----\nb", /holds a line break/],
    ["not ASCII", "tökén", /not ASCII/],
  ];
  for (const [what, value, message] of unusable) {
    test(`from a Secret whose value is ${what} are refused before the first event`, () => {
      const dependencies = transportDependencies({ readSecret: () => value });
      const callback = parseCallback("http://127.0.0.1/", { headers });
      assert.throws(() => createTransport(callback, dependencies), {
        code: "PGE_SECRET_INVALID",
        reason: "SecretInvalid",
        message,
      });
    });
  }
});

describe("answers", () => {
  const table: [number, string][] = [
    [200, "acknowledged"],
    [299, "acknowledged"],
    [301, "permanent"],
    [400, "permanent"],
    [408, "retryable"],
    [413, "permanent"],
    [425, "retryable"],
    [429, "retryable"],
    [500, "retryable"],
    [503, "retryable"],
  ];
  for (const [status, kind] of table) {
    test(`${status} is ${kind}`, async (t) => {
      const outcome = await deliverTo(t, () => status);
      assertOutcome(outcome, kind as "acknowledged", String(status));
    });
  }

  test("F41 Retry-After in seconds and as a date is passed on", async (t) => {
    const seconds = await deliverTo(t, () => ({ status: 429, headers: { "retry-after": "17" } }));
    assert.equal(seconds.kind === "retryable" && seconds.retryAfterMs, 17_000);
    const date = new Date(Date.now() + 600_000).toUTCString();
    const until = await deliverTo(t, () => ({ status: 503, headers: { "retry-after": date } }));
    assert.ok(until.kind === "retryable" && until.retryAfterMs !== undefined);
    assert.ok(until.retryAfterMs > 300_000 && until.retryAfterMs <= 600_000);
  });

  test("F41 a redirect is not followed", async (t) => {
    const target = await startReceiver(t);
    for (const status of [301, 302, 303, 307, 308]) {
      const outcome = await deliverTo(t, () => ({ status, headers: { location: target.url } }));
      assertOutcome(outcome, "permanent", String(status));
      assert.match((outcome as { message: string }).message, /redirects are not followed/);
    }
    assert.equal(target.requests.length, 0);
  });

  test("a late answer counts while it comes in time", async (t) => {
    assertOutcome(await deliverTo(t, () => ({ status: 200, delayMs: 300 })), "acknowledged");
  });

  async function deliverTo(t: TestContext, respond: () => number | { status: number }) {
    const receiver = await startReceiver(t, { respond });
    return httpTransport(t, receiver.url).deliver([changeEvent()], never);
  }
});

describe("servers that misbehave", () => {
  test("a reset is retryable, and the next attempt gets a connection of its own", async (t) => {
    let first = true;
    const respond = () => {
      if (!first) return 200;
      first = false;
      return "reset" as const;
    };
    const receiver = await startReceiver(t, { respond });
    const transport = httpTransport(t, receiver.url);
    assertOutcome(await transport.deliver([changeEvent()], never), "retryable", "ECONNRESET");
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
  });

  test("a body without end is cut off; its status counts", async (t) => {
    const server = await rawServer(t, (socket) => {
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      const chunk = `4000\r\n${"x".repeat(0x4000)}\r\n`;
      const fill = () => {
        while (!socket.destroyed && socket.write(chunk));
      };
      socket.on("drain", fill);
      fill();
    });
    const outcome = await httpTransport(t, server.url, { delivery: { timeoutSeconds: 30 } }).deliver(
      [changeEvent()],
      never,
    );
    assertOutcome(outcome, "acknowledged", "200");
    await server.allClosed();
  });

  test("a body that trickles holds an attempt no longer than its time limit; its status counts", async (t) => {
    const server = await rawServer(t, (socket) => {
      socket.write("HTTP/1.1 500 Oops\r\nContent-Length: 60000\r\n\r\n");
      const timer = setInterval(() => socket.write("x"), 50);
      socket.on("close", () => clearInterval(timer));
    });
    const outcome = await httpTransport(t, server.url, { delivery: { timeoutSeconds: 1 } }).deliver(
      [changeEvent()],
      never,
    );
    assertOutcome(outcome, "retryable", "500");
    await server.allClosed();
  });

  test("headers that trickle are no answer in time", async (t) => {
    const server = await rawServer(t, (socket) => {
      socket.write("HTTP/1.1 200 OK\r\nX-Slow: ");
      const timer = setInterval(() => socket.write("x"), 50);
      socket.on("close", () => clearInterval(timer));
    });
    const outcome = await httpTransport(t, server.url, { delivery: { timeoutSeconds: 1 } }).deliver(
      [changeEvent()],
      never,
    );
    assertOutcome(outcome, "retryable", "timeout");
    await server.allClosed();
  });

  test("a server that reads nothing is no answer in time, also for a large event", async (t) => {
    const server = await rawServer(t, () => undefined, { pauseOnConnect: true });
    const event = changeEvent({ new: JSON.stringify({ text: "x".repeat(20_000_000) }) });
    const outcome = await httpTransport(t, server.url, { delivery: { timeoutSeconds: 1 } }).deliver(
      [event],
      never,
    );
    assertOutcome(outcome, "retryable", "timeout");
  });

  test("no connection in time says so", async (t) => {
    // A TLS handshake that is never answered.
    const server = await rawServer(t, () => undefined);
    const uri = server.url.replace("http:", "https:");
    const outcome = await httpTransport(t, uri, { delivery: { timeoutSeconds: 1 } }).deliver(
      [changeEvent()],
      never,
    );
    assertOutcome(outcome, "retryable", "connect-timeout");
  });

  test("an answer that is no HTTP is retryable", async (t) => {
    const server = await rawServer(t, (socket) => socket.end("SSH-2.0-OpenSSH_9.2\r\n"));
    assertOutcome(await httpTransport(t, server.url).deliver([changeEvent()], never), "retryable");
  });

  test("information before the answer is not the answer", async (t) => {
    const server = await rawServer(t, (socket) =>
      socket.write(
        "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 429 Busy\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
      ),
    );
    const outcome = await httpTransport(t, server.url).deliver([changeEvent()], never);
    assert.deepEqual([outcome.code, outcome.kind === "retryable" && outcome.retryAfterMs], ["429", 3000]);
  });

  test("information and then nothing is no answer", async (t) => {
    const hints = "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n";
    const silent = await rawServer(t, (socket) => socket.write(hints));
    const transport = httpTransport(t, silent.url, { delivery: { timeoutSeconds: 1 } });
    assertOutcome(await transport.deliver([changeEvent()], never), "retryable", "timeout");
    const cut = await rawServer(t, (socket) => socket.end(hints));
    assertOutcome(
      await httpTransport(t, cut.url).deliver([changeEvent()], never),
      "retryable",
      "connection-lost",
    );
  });

  test("a cut body costs its connection only; the status counts", async (t) => {
    const server = await rawServer(t, (socket) =>
      socket.end("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"),
    );
    assertOutcome(await httpTransport(t, server.url).deliver([changeEvent()], never), "acknowledged", "200");
  });
});

interface RawServer {
  readonly url: string;
  /** Resolves when no connection is left. */
  allClosed(): Promise<void>;
}

/** A TCP server that answers the first bytes of a connection in its own way. */
async function rawServer(
  t: TestContext,
  answer: (socket: Socket) => unknown,
  options: ServerOpts = {},
): Promise<RawServer> {
  const sockets = new Set<Socket>();
  const server = createServer(options, (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined); // the client cuts connections on purpose
    socket.on("close", () => sockets.delete(socket));
    socket.once("data", () => answer(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    allClosed: async () => {
      await eventually(() => sockets.size === 0, { what: "the connection to be closed" });
    },
  };
}
