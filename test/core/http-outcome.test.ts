import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  outcomeOfFailure,
  outcomeOfStatus,
  retryAfterMilliseconds,
} from "../../src/core/delivery/http-outcome.ts";

const NOW_MS = Date.UTC(2026, 10, 24, 12, 0, 0);

describe("status", () => {
  const cases: [number, string][] = [
    ...[200, 201, 202, 204, 299].map((status): [number, string] => [status, "acknowledged"]),
    ...[408, 425, 429, 500, 501, 502, 503, 504, 599].map((status): [number, string] => [status, "retryable"]),
    ...[300, 301, 302, 304, 307, 308].map((status): [number, string] => [status, "permanent"]),
    ...[400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 431].map((status): [number, string] => [
      status,
      "permanent",
    ]),
  ];
  for (const [status, kind] of cases) {
    test(`${status} is ${kind}`, () => {
      const outcome = outcomeOfStatus(status, undefined, NOW_MS);
      assert.equal(outcome.kind, kind);
      assert.equal(outcome.code, String(status));
    });
  }

  test("redirects say what to do", () => {
    const outcome = outcomeOfStatus(308, undefined, NOW_MS);
    assert.match(
      outcome.kind === "permanent" ? outcome.message : "",
      /redirects are not followed; set `uri`/,
    );
  });

  test("the wait that a busy receiver asks for is passed on; no header, no wait", () => {
    assert.deepEqual(outcomeOfStatus(429, "7", NOW_MS), {
      kind: "retryable",
      code: "429",
      message: "the receiver cannot take the event now",
      retryAfterMs: 7000,
    });
    assert.ok(!("retryAfterMs" in outcomeOfStatus(503, undefined, NOW_MS)));
  });
});

describe("Retry-After", () => {
  const cases: [string | undefined, number | null][] = [
    [undefined, null],
    ["0", 0],
    ["120", 120_000],
    [" 5 ", 5000],
    ["999999999999999999999", 3_600_000],
    ["Tue, 24 Nov 2026 12:00:30 GMT", 30_000],
    ["Tue, 24 Nov 2026 11:59:00 GMT", 0],
    ["Wed, 25 Nov 2026 12:00:00 GMT", 3_600_000],
    ["", null],
    ["-1", null],
    ["1.5", null],
    ["soon", null],
    ["2026-11-24", null],
    ["no date at all GMT", null],
  ];
  for (const [header, expected] of cases) {
    test(`${JSON.stringify(header)} is ${expected} ms`, () => {
      assert.equal(retryAfterMilliseconds(header, NOW_MS), expected);
    });
  }

  test("whatever a receiver sends gives null or a wait within an hour", () => {
    fc.assert(
      fc.property(fc.string(), (header) => {
        const waitMs = retryAfterMilliseconds(header, NOW_MS);
        assert.ok(waitMs === null || (waitMs >= 0 && waitMs <= 3_600_000));
      }),
    );
  });
});

describe("no answer", () => {
  const cases: [string | undefined, string][] = [
    ["UND_ERR_HEADERS_TIMEOUT", "timeout"],
    ["UND_ERR_BODY_TIMEOUT", "timeout"],
    ["UND_ERR_CONNECT_TIMEOUT", "connect-timeout"],
    ["UND_ERR_SOCKET", "connection-lost"],
    ["ECONNREFUSED", "ECONNREFUSED"],
    ["ENOTFOUND", "ENOTFOUND"],
    ["EPIPE", "EPIPE"],
    ["DEPTH_ZERO_SELF_SIGNED_CERT", "DEPTH_ZERO_SELF_SIGNED_CERT"],
    [undefined, "failed"],
  ];
  for (const [errorCode, code] of cases) {
    test(`${errorCode} is retryable with the code ${code}`, () => {
      const outcome = outcomeOfFailure(errorCode);
      assert.equal(outcome.kind, "retryable");
      assert.equal(outcome.code, code);
    });
  }

  test("a certificate that is not trusted names the setting", () => {
    for (const code of [
      "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
      "CERT_HAS_EXPIRED",
      "ERR_TLS_CERT_ALTNAME_INVALID",
    ]) {
      const outcome = outcomeOfFailure(code);
      assert.match(outcome.kind === "retryable" ? outcome.message : "", /tls\.caSecretRef/);
    }
  });
});
