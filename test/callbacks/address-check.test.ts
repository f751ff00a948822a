import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import fc from "fast-check";
import { addressProblem, type ResolveName } from "../../src/callbacks/address-check.ts";
import { HttpTransport } from "../../src/callbacks/http.ts";
import type { HttpSpec } from "../../src/core/api/callback.ts";
import { changeEvent, ORIGIN } from "../support/change-event.ts";
import { startReceiver } from "../support/receiver.ts";
import { assertOutcome } from "./conformance.ts";
import { httpTransport, parseCallback } from "./http-endpoint.ts";

const never = new AbortController().signal;
const inCluster = { allowLoopback: false };
const onOneMachine = { allowLoopback: true };

describe("addresses", () => {
  const always = [
    ["169.254.169.254", "metadata of most clouds"],
    ["169.254.170.2", "credentials of ECS tasks"],
    ["169.254.0.0", "first link-local"],
    ["169.254.255.255", "last link-local"],
    ["fe80::1", "link-local"],
    ["fe80::1%eth0", "link-local with a zone"],
    ["febf::1", "last link-local"],
    ["fd00:ec2::254", "metadata of AWS"],
    ["fd00:ec2::23", "credentials of EKS pods"],
    ["100.100.100.200", "metadata of Alibaba"],
    ["168.63.129.16", "Azure's host agent"],
    ["192.0.0.192", "metadata of Oracle"],
    ["0.0.0.0", "this host"],
    ["::", "this host"],
    ["255.255.255.255", "broadcast"],
    ["224.0.0.1", "multicast"],
    ["ff02::1", "multicast"],
    ["::ffff:169.254.169.254", "mapped"],
    ["::ffff:a9fe:a9fe", "mapped, in hexadecimal"],
    ["::169.254.169.254", "compatible"],
    ["::a9fe:a9fe", "compatible, in hexadecimal"],
    ["64:ff9b::169.254.169.254", "through NAT64"],
    ["2002:a9fe:a9fe::1", "through 6to4"],
    ["::ffff:0:169.254.169.254", "translated"],
  ];
  for (const [address, what] of always as [string, string][]) {
    test(`${address} (${what}) is refused everywhere`, () => {
      assert.notEqual(addressProblem(address, inCluster), null);
      assert.notEqual(addressProblem(address, onOneMachine), null);
    });
  }

  for (const address of ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]) {
    test(`${address} is refused in a cluster and fine on one machine`, () => {
      assert.equal(addressProblem(address, inCluster), "loopback");
      assert.equal(addressProblem(address, onOneMachine), null);
    });
  }

  for (const address of [
    "10.96.0.10",
    "172.16.5.4",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.201",
    "93.184.216.34",
    "fd12:3456::1",
    "fd00:ec3::1",
    "2606:2800::1",
    "64:ff9b::8.8.8.8",
    "::ffff:10.0.0.1",
  ]) {
    test(`${address} is fine`, () => {
      assert.equal(addressProblem(address, inCluster), null);
    });
  }

  test("no way to write a link-local IPv4 address as IPv6 gets past", () => {
    const byte = fc.integer({ min: 0, max: 255 });
    const prefix = fc.constantFrom("::ffff:", "::ffff:0:", "64:ff9b::", "::");
    fc.assert(
      fc.property(prefix, byte, byte, (prefix, third, fourth) => {
        assert.notEqual(addressProblem(`${prefix}169.254.${third}.${fourth}`, onOneMachine), null);
      }),
    );
  });
});

describe("requests", () => {
  const loopbackHosts = [
    "127.0.0.1",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "0",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "localhost",
  ];
  for (const host of loopbackHosts) {
    test(`to ${host} are not made in a cluster`, async (t) => {
      const receiver = await startReceiver(t);
      const uri = `http://${host}:${new URL(receiver.url).port}/`;
      const outcome = await httpTransport(t, uri, { allowLoopback: false }).deliver([changeEvent()], never);
      assertOutcome(outcome, "retryable", "address-denied");
      assert.match(
        (outcome as { message: string }).message,
        /address [\d.:a-f]+, which may not be called \((loopback|unspecified)\)/,
      );
      assert.equal(receiver.connections, 0);
    });
  }

  for (const host of [
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "100.100.100.200",
  ]) {
    test(`to ${host} are made nowhere`, async (t) => {
      const outcome = await httpTransport(t, `http://${host}/latest/meta-data/`).deliver(
        [changeEvent()],
        never,
      );
      assertOutcome(outcome, "retryable", "address-denied");
    });
  }

  test("over https are checked too", async (t) => {
    for (const uri of ["https://169.254.169.254/", "https://[fe80::1]/"]) {
      assertOutcome(
        await httpTransport(t, uri).deliver([changeEvent()], never),
        "retryable",
        "address-denied",
      );
    }
  });
});

describe("names", () => {
  test("are resolved once a connection, and the connection goes to the address that was checked", async (t) => {
    const receiver = await startReceiver(t);
    const { transport, asked } = named(t, receiver.url, [["127.0.0.1"], ["169.254.169.254"]]);
    for (let id = 1; id <= 5; id += 1) {
      assertOutcome(await transport.deliver([changeEvent({ id: String(id) })], never), "acknowledged");
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.deepEqual([asked(), receiver.connections], [1, 1]);
    assert.match(receiver.requests[0]?.headers.host ?? "", /^receiver\.example:/);
  });

  test("that turn to a denied address are not connected to (DNS rebinding)", async (t) => {
    const receiver = await startReceiver(t);
    const { transport, asked } = named(t, receiver.url, [["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"]]);
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
    await receiver.close();
    await receiver.reopen();
    assertOutcome(await transport.deliver([changeEvent()], never), "retryable", "address-denied");
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
    assert.equal(asked(), 3);
  });

  test("are refused when one of several addresses is denied", async (t) => {
    const receiver = await startReceiver(t);
    for (const addresses of [
      ["127.0.0.1", "169.254.169.254"],
      ["fd00:ec2::254", "127.0.0.1"],
    ]) {
      const { transport } = named(t, receiver.url, [addresses]);
      assertOutcome(await transport.deliver([changeEvent()], never), "retryable", "address-denied");
    }
    assert.equal(receiver.connections, 0);
  });

  test("without an address, and ones that cannot be resolved, are retryable", async (t) => {
    const { transport } = named(t, "http://127.0.0.1:9", [[]]);
    assertOutcome(await transport.deliver([changeEvent()], never), "retryable", "ENOTFOUND");
    const unknown = httpTransport(t, "http://no-such-host.invalid/");
    const outcome = await unknown.deliver([changeEvent()], never);
    assertOutcome(outcome, "retryable");
    assert.match(outcome.code, /^(ENOTFOUND|EAI_AGAIN)$/);
  });
});

/** A transport to receiver.example at the port of `url`; each look-up gives the next answer, at last the last. */
function named(t: TestContext, url: string, answers: readonly (readonly string[])[]) {
  let asked = 0;
  const resolve: ResolveName = (_, __, callback) => {
    const addresses = answers[Math.min(asked, answers.length - 1)] ?? [];
    asked += 1;
    process.nextTick(() =>
      callback(
        null,
        addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
      ),
    );
  };
  const callback = parseCallback(`http://receiver.example:${new URL(url).port}/`);
  const transport = new HttpTransport({
    http: callback.http as HttpSpec & { uri: string },
    limits: callback,
    origin: ORIGIN,
    headers: () => [],
    signingKeys: null,
    tls: () => ({}),
    addresses: onOneMachine,
    userAgent: "test",
    resolve,
  });
  t.after(() => transport.close());
  return { transport, asked: () => asked };
}
