import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { createTransport } from "../../src/callbacks/registry.ts";
import { type CertificateAuthority, certificateAuthority } from "../support/certificates.ts";
import { changeEvent } from "../support/change-event.ts";
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

test("one of several authorities in the Secret is enough, with text around them", async (t) => {
  const authority = certificateAuthority("new");
  const port = await secureServer(t, authority, ["127.0.0.1"]);
  const secrets = {
    "receiver/ca.crt": `# old\n${certificateAuthority("old").cert}\n# new\n${authority.cert}`,
  };
  const transport = httpTransport(t, `https://127.0.0.1:${port}/`, { http, secrets });
  assertOutcome(await transport.deliver([changeEvent()], never), "acknowledged");
});

test("a certificate of an authority that is not trusted is refused, and the setting named", async (t) => {
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

/** A server that accepts everything; its port. */
async function secureServer(
  t: TestContext,
  authority: CertificateAuthority,
  hosts: readonly string[],
): Promise<number> {
  const server = createServer(authority.issue(hosts), (request, response) => {
    request.resume().on("end", () => response.writeHead(204).end());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}
