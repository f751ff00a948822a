/** The proxy that callbacks with https:// go through; set by who runs the workers, never by a PgEventSource. */
export interface ProxySettings {
  /** `http://host:port` */
  readonly httpsProxy: string;
  /** Hosts that are called directly: a name with all below it, an address, or a range of addresses. */
  readonly noProxy: readonly string[];
}

/** Names of Services. */
export const NO_PROXY = [".svc", ".cluster.local"];
