import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { nkeys } from "@nats-io/transport-node";
import { createTransport } from "../../src/callbacks/registry.ts";
import { MESSAGE_FORMATS } from "../../src/core/api/broker.ts";
import { callbackSchema } from "../../src/core/api/callback.ts";
import { eventData, structuredBody } from "../../src/core/delivery/cloudevents.ts";
import type { AttemptOutcome } from "../../src/core/delivery/transport.ts";
import { stableEventId } from "../../src/core/event.ts";
import { natsMissing, natsServer } from "../support/brokers/nats-server.ts";
import { certificateAuthority } from "../support/certificates.ts";
import { changeEvent, ORIGIN } from "../support/change-event.ts";
import { eventually } from "../support/processes.ts";
import { type BrokerSetup, brokerTransport } from "./broker-endpoint.ts";
import { receivedEvent } from "./broker-message.ts";
import { assertOutcome, exerciseTransport } from "./conformance.ts";
import { transportDependencies } from "./http-endpoint.ts";
import { createStream, deleteStream, natsTo, storedMessages } from "./nats-endpoint.ts";

const never = new AbortController().signal;
const event = changeEvent();

describe("NATS", { skip: await natsMissing() }, () => {
  for (const format of MESSAGE_FORMATS) {
    exerciseTransport(`NATS, ${format}`, {
      seesRefused: false,
      messageAnEvent: true,
      start: async (t, { timeoutSeconds }) => {
        const server = await natsServer(t);
        await createStream(server);
        let gone = false;
        return {
          transport: brokerTransport(t, natsTo(server, { format }), { delivery: { timeoutSeconds } }),
          accepted: async () =>
            (await storedMessages(server)).map((stored) => receivedEvent(stored, "ce-", decodeURIComponent)),
          messages: async () => (await storedMessages(server)).map(({ body }) => body),
          behave: async (next) => {
            server.thaw();
            if (gone) await server.start();
            gone = next === "Gone";
            if (next === "Accept") await createStream(server);
            else if (next === "RefuseForNow") await deleteStream(server);
            else if (next === "RefuseForGood") await createStream(server, { max_msg_size: 10 });
            else if (next === "Silent") await server.freeze();
            else await server.kill();
          },
        };
      },
    });
  }

  describe("messages", () => {
    test("are CloudEvents in the binary mode of the NATS binding", async (t) => {
      const server = await natsServer(t);
      await createStream(server);
      const strange = changeEvent({ table: "Ünï 🐘", key: '["50 %"]' });
      const transport = brokerTransport(t, natsTo(server));
      assertOutcome(await transport.deliver([strange], never), "acknowledged", "stored");
      const [{ header, body, destination } = assert.fail()] = await storedMessages(server);
      assert.equal(body, eventData(strange));
      assert.equal(destination, "pgevents.public.%C3%9Cn%C3%AF%20%F0%9F%90%98.insert");
      assert.equal(header("ce-specversion"), "1.0");
      assert.equal(header("ce-datacontenttype"), "application/json");
      assert.equal(header("ce-subject"), "public.%C3%9Cn%C3%AF%20%F0%9F%90%98/[%2250%20%25%22]");
      assert.equal(header("content-type"), undefined);
      assert.equal(header("Nats-Msg-Id"), `${stableEventId(ORIGIN, strange)}/orders`);
    });

    test("are one JSON object in the structured mode, and go to the subject that is set", async (t) => {
      const server = await natsServer(t);
      await createStream(server);
      const fields = { format: "CloudEventsStructured", subject: "pgevents.all" };
      await brokerTransport(t, natsTo(server, fields)).deliver([event], never);
      const [{ header, body, destination } = assert.fail()] = await storedMessages(server);
      assert.deepEqual([body, destination], [structuredBody(ORIGIN, event), "pgevents.all"]);
      assert.equal(header("content-type"), "application/cloudevents+json; charset=utf-8");
    });

    test("that repeat are dropped by the stream, also those of another process; another callback's are not", async (t) => {
      const server = await natsServer(t);
      await createStream(server);
      const first = brokerTransport(t, natsTo(server));
      assertOutcome(await first.deliver([event], never), "acknowledged", "stored");
      assertOutcome(await first.deliver([event], never), "acknowledged", "duplicate");
      const restarted = brokerTransport(t, natsTo(server));
      assertOutcome(await restarted.deliver([event], never), "acknowledged", "duplicate");
      const other = brokerTransport(t, natsTo(server, { subject: "pgevents.copy" }), { name: "copy" });
      assertOutcome(await other.deliver([event], never), "acknowledged", "stored");
      assert.equal((await storedMessages(server)).length, 2);
    });

    test("larger than the server takes are refused for good, with both sizes", async (t) => {
      const server = await natsServer(t, "max_payload: 65536");
      await createStream(server);
      const row = JSON.stringify({ text: "x".repeat(70_000) });
      const outcome = await brokerTransport(t, natsTo(server)).deliver([changeEvent({ new: row })], never);
      assertOutcome(outcome, "permanent", "too-large");
      assert.match(messageOf(outcome), /takes 70\d\d\d bytes and headers, the server takes 65536/);
    });

    test("that no stream takes, or another than the one named, are tried again, and the subject is named", async (t) => {
      const server = await natsServer(t);
      const transport = brokerTransport(t, natsTo(server, { stream: "OTHER" }));
      const unheard = await transport.deliver([event], never);
      assertOutcome(unheard, "retryable", "no-stream");
      assert.match(messageOf(unheard), /no stream holds the subject pgevents\.public\.orders\.insert/);
      await createStream(server);
      const wrong = await transport.deliver([event], never);
      assertOutcome(wrong, "retryable", "jetstream-10060");
      assert.match(messageOf(wrong), /belongs to another stream than `stream` names/);
      await deleteStream(server);
      await createStream(server, { name: "OTHER" });
      assertOutcome(await transport.deliver([event], never), "acknowledged");
    });

    test("that a stream which is full does not take are tried again", async (t) => {
      const server = await natsServer(t);
      await createStream(server, { max_msgs: 1, discard: "new" as never });
      const transport = brokerTransport(t, natsTo(server));
      assertOutcome(await transport.deliver([event], never), "acknowledged");
      const outcome = await transport.deliver([changeEvent({ id: "2" })], never);
      assertOutcome(outcome, "retryable");
      assert.match(messageOf(outcome), /the stream does not take the message now/);
    });
  });

  describe("a login", () => {
    const seed = nkeys.createUser();
    const nkey = new TextDecoder().decode(seed.getSeed());
    const ways: [string, string, Record<string, unknown>, Record<string, string>][] = [
      [
        "by user and password",
        `authorization { users: [{ user: alice, password: "s3cret-4711" }] }`,
        { login: { secretRef: { name: "nats" } } },
        { "nats/username": "alice", "nats/password": "s3cret-4711\n" },
      ],
      [
        "by a user of the manifest and a password",
        `authorization { user: alice, password: "s3cret-4711" }`,
        { login: { secretRef: { name: "nats" }, username: "alice", passwordKey: "p" } },
        { "nats/p": "s3cret-4711" },
      ],
      [
        "by token",
        `authorization { token: "s3cret-4711" }`,
        { tokenSecretRef: { name: "nats", key: "token" } },
        { "nats/token": "s3cret-4711" },
      ],
      [
        "by nkey",
        `authorization { users: [{ nkey: ${seed.getPublicKey()} }] }`,
        { nkeySecretRef: { name: "nats" } },
        { "nats/seed": nkey },
      ],
    ];
    for (const [title, settings, auth, secrets] of ways) {
      test(title, async (t) => {
        const server = await natsServer(t, settings);
        const transport = brokerTransport(t, natsTo(server, { auth }), { secrets });
        assertOutcome(await transport.deliver([event], never), "retryable", "no-stream"); // it was let in
        const stranger = await brokerTransport(t, natsTo(server)).deliver([event], never);
        assertOutcome(stranger, "retryable", "authorization");
        assert.match(messageOf(stranger), /refuses the login; check `auth`/);
      });
    }

    test("by a credentials file of an account, as operators of NATS give out", async (t) => {
      const { settings, creds } = accountOf();
      const server = await natsServer(t, settings);
      const auth = { credsSecretRef: { name: "nats" } };
      const transport = brokerTransport(t, natsTo(server, { auth }), {
        secrets: { "nats/user.creds": creds },
      });
      assertOutcome(await transport.deliver([event], never), "retryable", "no-stream"); // it was let in
      assertOutcome(
        await brokerTransport(t, natsTo(server)).deliver([event], never),
        "retryable",
        "authorization",
      );
    });

    test("that is refused is tried again and shows nothing; a Secret that changes is used without a restart", async (t) => {
      const server = await natsServer(t, `authorization { token: "s3cret-4711" }`);
      await createStream(server, {}, { token: "s3cret-4711" });
      const secrets = { "nats/token": "wrong-0815" };
      const auth = { tokenSecretRef: { name: "nats", key: "token" } };
      const transport = brokerTransport(t, natsTo(server, { auth }), { secrets });
      const outcome = await transport.deliver([event], never);
      assertOutcome(outcome, "retryable", "authorization");
      assert.doesNotMatch(JSON.stringify(outcome), /0815|4711/);
      secrets["nats/token"] = "s3cret-4711";
      assertOutcome(await transport.deliver([event], never), "acknowledged");
    });

    test("that may not publish is told of, with the subject", async (t) => {
      const server = await natsServer(
        t,
        `authorization { users: [{ user: a, password: b, permissions: { publish: "other" } }] }`,
      );
      const auth = { login: { secretRef: { name: "nats" }, username: "a" } };
      const transport = brokerTransport(t, natsTo(server, { auth }), { secrets: { "nats/password": "b" } });
      const outcome = await transport.deliver([event], never);
      assertOutcome(outcome, "retryable", "permission");
      assert.match(messageOf(outcome), /may not publish to pgevents\.public\.orders\.insert/);
    });

    test("by what is no seed, or no credentials file, is refused before the first event, unshown", () => {
      const ways = [
        [{ nkeySecretRef: { name: "nats" } }, "seed", /holds no seed of a user/],
        [{ credsSecretRef: { name: "nats" } }, "user.creds", /holds no credentials file of NATS/],
      ] as const;
      for (const [auth, key, problem] of ways) {
        const callback = callbackSchema.parse({ name: "orders", nats: { servers: ["nats://a"], auth } });
        const dependencies = transportDependencies({ readSecret: () => "hunter2" });
        assert.throws(
          () => createTransport(callback, dependencies),
          ({ message }: Error) =>
            message.startsWith(`Key ${key} of Secret nats`) &&
            problem.test(message) &&
            !message.includes("hunter2"),
        );
      }
    });

    test("whose Secret lacks a key is refused before the first event", () => {
      const auth = { login: { secretRef: { name: "nats" } } };
      const callback = callbackSchema.parse({ name: "orders", nats: { servers: ["nats://a"], auth } });
      assert.throws(() => createTransport(callback, transportDependencies()), {
        code: "PGE_SECRET_INVALID",
        message: "Key username of Secret nats, used by callback orders, is missing.",
      });
    });
  });

  describe("connections", () => {
    test("by TLS trust the manifest's authority and show its certificate", async (t) => {
      const authority = certificateAuthority("own");
      const server = await natsServer(t, tlsSettings(t, authority, ["localhost", "127.0.0.1"]));
      const client = authority.issue(["client"]);
      const secrets = { "nats/ca.crt": authority.cert, "id/tls.crt": client.cert, "id/tls.key": client.key };
      const tls = { caSecretRef: { name: "nats" }, clientCertSecretRef: { name: "id" } };
      for (const host of ["localhost", "127.0.0.1"]) {
        for (const scheme of ["tls", "nats"]) {
          const servers = [`${scheme}://${host}:${server.port}`];
          const transport = brokerTransport(t, { nats: { servers, tls } }, { secrets });
          assertOutcome(await transport.deliver([event], never), "retryable", "no-stream");
        }
      }
      const nameless = brokerTransport(
        t,
        { nats: { servers: [`tls://localhost:${server.port}`], tls: { caSecretRef: { name: "nats" } } } },
        { secrets },
      );
      assertOutcome(await nameless.deliver([event], never), "retryable");
      assert.notEqual((await nameless.deliver([event], never)).code, "no-stream");
    });

    test("to a server whose certificate is not trusted are refused, and the setting named", async (t) => {
      const server = await natsServer(
        t,
        tlsSettings(t, certificateAuthority("theirs"), ["localhost"], false),
      );
      const secrets = { "nats/ca.crt": certificateAuthority("own").cert };
      const tls = { caSecretRef: { name: "nats" } };
      for (const fields of [{ tls }, {}]) {
        const servers = [`nats://localhost:${server.port}`];
        const transport = brokerTransport(t, { nats: { servers, ...fields } }, { secrets });
        const outcome = await transport.deliver([event], never);
        assertOutcome(outcome, "retryable");
        assert.match(messageOf(outcome), /certificate is not trusted.*tls\.caSecretRef/);
      }
    });

    test("that must be by TLS are not made in plain text", async (t) => {
      const server = await natsServer(t);
      const transport = brokerTransport(t, { nats: { servers: [`tls://127.0.0.1:${server.port}`] } });
      assertOutcome(await transport.deliver([event], never), "retryable", "no-tls");
    });

    test("are made to another server when one is down", async (t) => {
      const [down, up] = [await natsServer(t), await natsServer(t)];
      await createStream(up);
      await down.kill();
      const transports = Array.from({ length: 5 }, () =>
        brokerTransport(t, { nats: { servers: [down.url, up.url] } }),
      );
      for (const transport of transports)
        assertOutcome(await transport.deliver([event], never), "acknowledged");
    });

    test("in a cluster are not made to loopback, and nowhere to metadata", async (t) => {
      const server = await natsServer(t);
      await createStream(server);
      const refused: [string, BrokerSetup][] = [
        [server.url, { allowLoopback: false }],
        [`nats://localhost:${server.port}`, { allowLoopback: false }],
        ["nats://169.254.169.254:80", {}],
        ["nats://[fd00:ec2::254]", {}],
      ];
      for (const [url, setup] of refused) {
        const outcome = await brokerTransport(t, { nats: { servers: [url] } }, setup).deliver([event], never);
        assertOutcome(outcome, "retryable", "address-denied");
      }
      assert.equal((await storedMessages(server)).length, 0);
    });

    test("that are lost with attempts under way end those at once, and are made anew", async (t) => {
      const server = await natsServer(t);
      await createStream(server);
      const transport = brokerTransport(t, natsTo(server), { delivery: { timeoutSeconds: 30 } });
      assertOutcome(await transport.deliver([event], never), "acknowledged");
      await server.freeze();
      const underWay = Array.from({ length: 20 }, (_, index) =>
        transport.deliver([changeEvent({ id: String(index + 2) })], never),
      );
      await server.kill();
      for (const outcome of await Promise.all(underWay)) assertOutcome(outcome, "retryable");
      await server.start();
      assertOutcome(await transport.deliver([changeEvent({ id: "2" })], never), "acknowledged");
      await eventually(async () => (await storedMessages(server)).length >= 2);
    });
  });
});

function tlsSettings(
  t: TestContext,
  authority: ReturnType<typeof certificateAuthority>,
  hosts: readonly string[],
  verify = true,
): string {
  const directory = mkdtempSync(join(tmpdir(), "pg-events-nats-tls-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const { cert, key } = authority.issue(hosts);
  const file = (name: string, text: string) => {
    writeFileSync(join(directory, name), text);
    return JSON.stringify(join(directory, name));
  };
  return `tls { cert_file: ${file("cert", cert)}, key_file: ${file("key", key)}, ca_file: ${file("ca", authority.cert)}, verify: ${verify} }`;
}

/** Configuration of a server with an operator, an account and a user, and the user's credentials file. */
function accountOf(): { settings: string; creds: string } {
  const [operator, system, account, user] = [
    nkeys.createOperator(),
    nkeys.createAccount(),
    nkeys.createAccount(),
    nkeys.createUser(),
  ];
  const all = { subs: -1, data: -1, payload: -1 };
  const storage = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
  const limits = { ...all, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
  const ofAccount = (of: typeof account, more: object) =>
    token(operator, of, { type: "account", version: 2, limits: { ...limits, ...more } });
  const settings = [
    `operator: ${token(operator, operator, { type: "operator", version: 2, system_account: system.getPublicKey() })}`,
    "resolver: MEMORY",
    `resolver_preload: {
      ${system.getPublicKey()}: ${ofAccount(system, {})}
      ${account.getPublicKey()}: ${ofAccount(account, storage)}
    }`,
  ].join("\n");
  const jwt = token(account, user, { type: "user", version: 2, pub: {}, sub: {}, ...all });
  const part = (name: string, text: string) => `-----BEGIN ${name}-----\n${text}\n------END ${name}------\n`;
  const seed = new TextDecoder().decode(user.getSeed());
  return { settings, creds: `${part("NATS USER JWT", jwt)}\n${part("USER NKEY SEED", seed)}` };
}

function token(issuer: ReturnType<typeof nkeys.createUser>, subject: typeof issuer, nats: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const iat = Math.floor(Date.now() / 1000);
  const claims = {
    jti: "1",
    iat,
    iss: issuer.getPublicKey(),
    sub: subject.getPublicKey(),
    name: "test",
    nats,
  };
  const text = `${part({ typ: "JWT", alg: "ed25519-nkey" })}.${part(claims)}`;
  return `${text}.${Buffer.from(issuer.sign(Buffer.from(text))).toString("base64url")}`;
}

function messageOf(outcome: AttemptOutcome): string {
  return outcome.kind === "acknowledged" ? "" : outcome.message;
}
