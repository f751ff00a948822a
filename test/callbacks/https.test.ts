import assert from "node:assert/strict";
import { once } from "node:events";
import { createSecureServer as createHttp2Server, type Http2SecureServer } from "node:http2";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { describe, type TestContext, test } from "node:test";
import type { SecureContextOptions } from "node:tls";
import { createTransport } from "../../src/callbacks/registry.ts";
import { type CertificateAuthority, certificateAuthority } from "../support/certificates.ts";
import { changeEvent } from "../support/change-event.ts";
import { eventually } from "../support/processes.ts";
import { assertOutcome } from "./conformance.ts";
import { httpTransport, parseCallback, transportDependencies } from "./http-endpoint.ts";

const never = new AbortController().signal;
const http = { tls: { caSecretRef: { name: "receiver", key: "ca.crt" } } };

test("a certificate of the manifest's own authority is trusted, by name and by address", async (t) => {
  const authority = certificateAuthority("own");
  const port = await secureServer(t, authority, ["localhost", "127.0.0.1"]);
  for (const host of ["localhost", "127.0.0.1"]) {
    const secrets = { "receiver/ca.crt": authority.cert };
    const transport = httpTransport(t, `https://${host}:${port}/`, { http, secrets });
    assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
  }
});

test("an authority that a SinkBinding brings along (K_CA_CERTS) is trusted", async (t) => {
  const authority = certificateAuthority("own");
  const port = await secureServer(t, authority, ["127.0.0.1"]);
  const transport = httpTransport(t, `https://127.0.0.1:${port}/`, { caCerts: authority.cert });
  assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
});

test("one of several authorities in the Secret is enough, with text around them", async (t) => {
  const authority = certificateAuthority("new");
  const port = await secureServer(t, authority, ["127.0.0.1"]);
  const secrets = {
    "receiver/ca.crt": `# old\n${certificateAuthority("old").cert}\n# new\n${authority.cert}`,
  };
  const transport = httpTransport(t, `https://127.0.0.1:${port}/`, { http, secrets });
  assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
});

test("F41 a certificate of an authority that is not trusted is refused, and the setting named", async (t) => {
  const port = await secureServer(t, certificateAuthority("theirs"), ["127.0.0.1"]);
  for (const setup of [{}, { http, secrets: { "receiver/ca.crt": certificateAuthority("own").cert } }]) {
    const outcome = await httpTransport(t, `https://127.0.0.1:${port}/`, setup).deliver(
      [changeEvent()],
      never,
    );
    assertOutcome(outcome, "retryable");
    assert.match((outcome as { message: string }).message, /certificate is not trusted.*tls\.caSecretRef/);
  }
});

test("a certificate for another host is refused", async (t) => {
  const authority = certificateAuthority("own");
  const port = await secureServer(t, authority, ["receiver.example"]);
  const secrets = { "receiver/ca.crt": authority.cert };
  const transport = httpTransport(t, `https://localhost:${port}/`, { http, secrets });
  assertOutcome(await transport.deliver([changeEvent()], never), "retryable", "ERR_TLS_CERT_ALTNAME_INVALID");
});

test("certificates are verified even when the environment says otherwise", async (t) => {
  const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
  t.after(() => {
    if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
  });
  const port = await secureServer(t, certificateAuthority("theirs"), ["127.0.0.1"]);
  assertOutcome(
    await httpTransport(t, `https://127.0.0.1:${port}/`).deliver([changeEvent()], never),
    "retryable",
  );
});

test("an authority that changes is used by the next connection", async (t) => {
  const [first, second] = [certificateAuthority("one"), certificateAuthority("two")] as const;
  const secrets = { "receiver/ca.crt": first.cert };
  const port = await secureServer(t, second, ["127.0.0.1"]);
  const transport = httpTransport(t, `https://127.0.0.1:${port}/`, { http, secrets });
  assertOutcome(await transport.deliver([changeEvent()], never), "retryable");
  secrets["receiver/ca.crt"] = second.cert;
  assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
});

test("an authority that is no certificate is refused before the first event", () => {
  const readSecret = () => "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----";
  const dependencies = transportDependencies({ readSecret });
  assert.throws(() => createTransport(parseCallback("https://127.0.0.1/", http), dependencies), {
    code: "PGE_SECRET_INVALID",
    message: "Key ca.crt of Secret receiver, used by callback orders, holds no certificate in PEM form.",
  });
});

test("a certificate of one's own is shown to a receiver that wants one", async (t) => {
  const authority = certificateAuthority("own");
  const port = await secureServer(t, authority, ["127.0.0.1"], { requestCert: true, ca: authority.cert });
  const { cert, key } = authority.issue(["shop"]);
  const secrets = { "receiver/ca.crt": authority.cert, "id/tls.crt": cert, "id/tls.key": key };
  const tls = { ...http.tls, clientCertSecretRef: { name: "id" } };
  const known = httpTransport(t, `https://127.0.0.1:${port}/`, { http: { tls }, secrets });
  assertOutcome(await known.deliver([changeEvent()], never), "acknowledged");
  const unknown = httpTransport(t, `https://127.0.0.1:${port}/`, { http, secrets });
  assertOutcome(await unknown.deliver([changeEvent()], never), "retryable");
});

test("a certificate without its key is refused before the first event", () => {
  const values: Record<string, string> = { "id/tls.crt": certificateAuthority("own").cert };
  const dependencies = transportDependencies({ readSecret: (name, key) => values[`${name}/${key}`] });
  const callback = parseCallback("https://127.0.0.1/", { tls: { clientCertSecretRef: { name: "id" } } });
  assert.throws(() => createTransport(callback, dependencies), {
    code: "PGE_SECRET_INVALID",
    message: "Key tls.key of Secret id, used by callback orders, is missing.",
  });
});

describe("HTTP/2", () => {
  const own = certificateAuthority("own");
  const secrets = { "receiver/ca.crt": own.cert };

  test("carries many requests at once over one connection", async (t) => {
    let [sessions, atOnce, most] = [0, 0, 0];
    const server = createHttp2Server(own.issue(["127.0.0.1"]), (request, response) => {
      atOnce += 1;
      most = Math.max(most, atOnce);
      request.resume().on("end", () =>
        setTimeout(() => {
          atOnce -= 1;
          response.writeHead(request.headers["ce-id"] === undefined ? 400 : 204).end();
        }, 20),
      );
    });
    server.on("session", () => {
      sessions += 1;
    });
    const port = await listening(t, server);
    const transport = httpTransport(t, `https://127.0.0.1:${port}/events?x=1`, {
      http: { ...http, protocol: "Http2" },
      delivery: { maxInFlight: 50 },
      secrets,
    });
    for (let round = 0; round < 3; round += 1) {
      const events = Array.from({ length: 50 }, (_, index) => changeEvent({ id: String(index + 1) }));
      for (const outcome of await Promise.all(events.map((one) => transport.deliver([one], never))))
        assertOutcome(outcome, "acknowledged", "204");
    }
    assert.equal(sessions, 1);
    assert.ok(most > 10, `${most} at once`);
  });

  test("is not there at every receiver: then it is HTTP/1.1", async (t) => {
    const port = await secureServer(t, own, ["127.0.0.1"]);
    const setup = { http: { ...http, protocol: "Http2" as const }, secrets };
    const transport = httpTransport(t, `https://127.0.0.1:${port}/`, setup);
    for (let id = 1; id <= 3; id += 1) {
      assertOutcome(await transport.deliver([changeEvent({ id: String(id) })], never), "acknowledged");
    }
  });

  test("no answer in time, and a session that ends, are retryable", async (t) => {
    let end: (() => void) | null = null;
    const server = createHttp2Server(own.issue(["127.0.0.1"]), (request) => {
      end = () => request.stream.session?.destroy();
      request.resume();
    });
    const port = await listening(t, server);
    const setup = { http: { ...http, protocol: "Http2" as const }, delivery: { timeoutSeconds: 1 }, secrets };
    const transport = httpTransport(t, `https://127.0.0.1:${port}/`, setup);
    assertOutcome(await transport.deliver([changeEvent()], never), "retryable", "timeout");
    const cut = transport.deliver([changeEvent()], never);
    await eventually(() => end !== null);
    (end as unknown as () => void)();
    assertOutcome(await cut, "retryable");
  });
});

/** A server that accepts everything; its port. */
async function secureServer(
  t: TestContext,
  authority: CertificateAuthority,
  hosts: readonly string[],
  options: SecureContextOptions & { requestCert?: boolean } = {},
): Promise<number> {
  const server = createServer({ ...authority.issue(hosts), ...options }, (request, response) => {
    request.resume().on("end", () => response.writeHead(204).end());
  });
  return listening(t, server);
}

async function listening(t: TestContext, server: Server | Http2SecureServer): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    if ("closeAllConnections" in server) server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}
