/** What codes of Node.js say about a connection, in words for the user of a broker. */
import { isCertificateCode } from "../core/delivery/certificate-code.ts";
import type { AttemptOutcome } from "../core/delivery/transport.ts";

const PROBLEMS: Record<string, string> = {
  ECONNREFUSED: "nothing listens at the address of",
  ENOTFOUND: "the host name is not known: check",
  EAI_AGAIN: "name resolution does not work at the moment, for",
  ETIMEDOUT: "no connection in time to",
  EHOSTUNREACH: "no way to the address of",
  ENETUNREACH: "no way to the address of",
  ECONNRESET: "the connection was cut by",
  EPIPE: "the connection was cut by",
};

/** Null when the code is not about a certificate. */
export function certificateProblem(code: unknown): AttemptOutcome | null {
  if (typeof code !== "string") return null;
  if (isCertificateCode(code)) {
    const message = "the server's certificate is not trusted for this host; check `tls.caSecretRef`";
    return { kind: "retryable", code, message };
  }
  if (!/^ERR_(SSL|OSSL|TLS)/.test(code) && code !== "EPROTO") return null;
  const message =
    "TLS could not be agreed on; check `tls`, and whether the server wants a client certificate";
  return { kind: "retryable", code, message };
}

/** Null when the code is none of the system's. @param setting the field that has the addresses */
export function connectionProblem(code: unknown, setting: string): AttemptOutcome | null {
  const problem = typeof code === "string" ? PROBLEMS[code] : undefined;
  return problem === undefined
    ? null
    : { kind: "retryable", code: code as string, message: `${problem} ${setting}` };
}
