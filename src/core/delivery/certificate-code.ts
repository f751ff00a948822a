/** Whether a code of Node.js says that a certificate is not trusted for the host that was called. */
export function isCertificateCode(code: string): boolean {
  return /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|ERR_TLS_CERT|HOSTNAME_MISMATCH|INVALID_CA)/.test(code);
}
