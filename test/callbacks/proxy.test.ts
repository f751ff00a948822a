/** Callbacks through a proxy, with a real one: which of them, what it learns, and what fails. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { directHostProblem, proxyAddressProblem, proxyFor } from "../../src/callbacks/proxy.ts";
import { createTransport } from "../../src/callbacks/registry.ts";
import type { CallbackSpec } from "../../src/core/api/callback.ts";
import type { Transport } from "../../src/core/delivery/transport.ts";
import { NO_PROXY } from "../../src/core/settings/proxy.ts";
import { certificateAuthority } from "../support/certificates.ts";
import { changeEvent } from "../support/change-event.ts";
import { connectProxy } from "../support/connect-proxy.ts";
import { httpsReceiver } from "../support/https-receiver.ts";
import { eventually } from "../support/processes.ts";
import { startReceiver } from "../support/receiver.ts";
import { assertOutcome } from "./conformance.ts";
import { parseCallback, transportDependencies } from "./http-endpoint.ts";

const never = new AbortController().signal;
const own = certificateAuthority("own");
const URI = "https://orders.example.com/events";

interface Setup {
  readonly http?: Partial<CallbackSpec["http"]>;
  readonly delivery?: Partial<CallbackSpec["delivery"]>;
  readonly noProxy?: readonly string[];
  readonly allowLoopback?: boolean;
}

function through(t: TestContext, httpsProxy: string, uri: string, setup: Setup = {}): Transport {
  const { http = {}, delivery = {}, noProxy = NO_PROXY, allowLoopback = true } = setup;
  const tls = { caSecretRef: { name: "receiver", key: "ca.crt" } };
  const dependencies = transportDependencies({
    readSecret: () => own.cert,
    addresses: { allowLoopback },
    proxy: { httpsProxy, noProxy },
  });
  const transport = createTransport(
    parseCallback(uri, uri.startsWith("https") ? { tls, ...http } : http, delivery),
    dependencies,
  );
  t.after(() => transport.close());
  return transport;
}

test("a name that only the proxy knows is reached, over one connection, and the proxy learns the name alone", async (t) => {
  const receiver = await httpsReceiver(t, own, ["orders.example.com"]);
  const proxy = await connectProxy(t, () => receiver);
  const transport = through(t, proxy.url, URI, { delivery: { maxInFlight: 1 } });
  for (const id of ["1", "2", "3"])
    assertOutcome(await transport.deliver([changeEvent({ id })], never), "acknowledged", "204");
  assert.deepEqual(proxy.asked, ["orders.example.com:443"]);
  assert.deepEqual(
    receiver.received.map(({ version }) => version),
    ["1.1", "1.1", "1.1"],
  );
  await transport.close();
  await eventually(() => proxy.open() === 0, { what: "the end of the connections" });
});

test("HTTP/2, and a port of its own, go through it too", async (t) => {
  const receiver = await httpsReceiver(t, own, ["orders.example.com"]);
  const proxy = await connectProxy(t, () => receiver);
  const transport = through(t, proxy.url, "https://orders.example.com:8443/", {
    http: { protocol: "Http2" },
  });
  const events = Array.from({ length: 20 }, (_, index) => changeEvent({ id: String(index + 1) }));
  for (const outcome of await Promise.all(events.map((event) => transport.deliver([event], never))))
    assertOutcome(outcome, "acknowledged");
  assert.deepEqual(proxy.asked, ["orders.example.com:8443"]);
  assert.deepEqual(new Set(receiver.received.map(({ version }) => version)), new Set(["2.0"]));
});

test("whatever the proxy takes a name for, only who has its certificate gets an event", async (t) => {
  const other = await httpsReceiver(t, own, ["metadata.internal"]);
  const proxy = await connectProxy(t, () => other);
  const outcome = await through(t, proxy.url, URI).deliver([changeEvent()], never);
  assertOutcome(outcome, "retryable", "ERR_TLS_CERT_ALTNAME_INVALID");
  assert.deepEqual(other.received, []);
});

test("an address that may not be called is not asked for", async (t) => {
  const proxy = await connectProxy(t, () => 200);
  for (const host of ["169.254.169.254", "[fd00:ec2::254]", "127.0.0.1", "localhost"]) {
    const transport = through(t, proxy.url, `https://${host}/`, { allowLoopback: false });
    assertOutcome(await transport.deliver([changeEvent()], never), "retryable", "address-denied");
  }
  assert.deepEqual(proxy.asked, []);
});

test("callbacks without TLS, and those that are excepted, are called directly", async (t) => {
  const proxy = await connectProxy(t, () => 403);
  const plain = await startReceiver(t);
  assertOutcome(await through(t, proxy.url, plain.url).deliver([changeEvent()], never), "acknowledged");
  const secure = await httpsReceiver(t, own, ["localhost", "127.0.0.1"]);
  for (const [host, noProxy] of [
    ["localhost", []],
    ["127.0.0.1", ["127.0.0.0/8"]],
  ] as const) {
    const transport = through(t, proxy.url, `https://${host}:${secure.port}/`, { noProxy });
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
  }
  assert.deepEqual(proxy.asked, []);
});

describe("a proxy that gives no connection is told as such, and its return is noticed", () => {
  test("it refuses", async (t) => {
    const receiver = await httpsReceiver(t, own, ["orders.example.com"]);
    let refuses = true;
    const proxy = await connectProxy(t, () => (refuses ? 403 : receiver));
    const transport = through(t, proxy.url, URI);
    assert.deepEqual(await transport.deliver([changeEvent()], never), {
      kind: "retryable",
      code: "proxy",
      message: "the proxy gives no connection to the host of `uri`, it answers 403",
    });
    refuses = false;
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
  });

  test("it is not there", async (t) => {
    const proxy = await connectProxy(t, () => 200);
    await proxy.close();
    assert.deepEqual(await through(t, proxy.url, URI).deliver([changeEvent()], never), {
      kind: "retryable",
      code: "proxy",
      message: "the proxy is not reached (ECONNREFUSED)",
    });
  });

  test("it closes the connection", async (t) => {
    const proxy = await connectProxy(t, () => ({ port: 9 }));
    assertOutcome(await through(t, proxy.url, URI).deliver([changeEvent()], never), "retryable", "proxy");
  });

  test("it says nothing", async (t) => {
    const proxy = await connectProxy(t, () => "hang");
    const transport = through(t, proxy.url, URI, { delivery: { timeoutSeconds: 1 } });
    const outcome = await transport.deliver([changeEvent()], never);
    assertOutcome(outcome, "retryable");
    assert.ok(["proxy", "connect-timeout"].includes((outcome as { code: string }).code));
    await eventually(() => proxy.open() === 0, { what: "the end of the connection", timeoutMs: 10_000 });
  });
});

test("which hosts are excepted", () => {
  const cases: [string, string[], boolean][] = [
    ["https://orders.example.com/", [], true],
    ["https://orders.example.com/", ["example.com"], false],
    ["https://ORDERS.Example.com./", [".EXAMPLE.com"], false],
    ["https://example.com/", [".example.com"], false],
    ["https://notexample.com/", ["example.com"], true],
    ["https://receiver.shop.svc/", NO_PROXY as string[], false],
    ["https://receiver.shop.svc.cluster.local/", NO_PROXY as string[], false],
    ["https://receiver/", [], false],
    ["https://a.localhost/", [], false],
    ["https://10.1.2.3/", ["10.0.0.0/8"], false],
    ["https://11.1.2.3/", ["10.0.0.0/8", "11.1.2.4"], true],
    ["https://11.1.2.3/", ["11.1.2.3"], false],
    ["https://[::ffff:10.1.2.3]/", ["10.0.0.0/8"], false],
    ["https://[fd00::1]/", ["fd00::/8"], false],
    ["https://[fd00::1]/", ["10.0.0.0/8"], true],
    ["http://orders.example.com/", [], false],
  ];
  for (const [uri, noProxy, proxied] of cases) {
    const found = proxyFor(new URL(uri), { httpsProxy: "http://proxy:3128", noProxy });
    assert.equal(found?.host ?? null, proxied ? "proxy:3128" : null, `${uri} ${noProxy}`);
  }
  assert.equal(proxyFor(new URL(URI), undefined), null);
});

test("what is no proxy, and no host, is said", () => {
  for (const [text, problem] of [
    ["http://proxy:3128", null],
    ["http://proxy.example.com", null],
    ["https://proxy:3128", /such as http:\/\/proxy:3128/],
    ["proxy:3128", /such as/],
    ["socks5://proxy:1080", /such as/],
    ["http://me:secret@proxy:3128", /^Credentials in it are not supported\.$/],
    ["http://proxy:3128/path", /Nothing may follow the port/],
  ] as const)
    if (problem === null) assert.equal(proxyAddressProblem(text), null);
    else assert.match(proxyAddressProblem(text) ?? "", problem);
  for (const entry of [".svc", "example.com", "a_b.example", "10.0.0.0/8", "fd00::/8", "::1", "10.1.2.3"])
    assert.equal(directHostProblem(entry), null, entry);
  for (const entry of ["*", "*.example.com", "example.com:443", "https://x", "10.0.0.0/33", "a b"])
    assert.match(directHostProblem(entry) ?? "", /is no name, address or range/, entry);
});
