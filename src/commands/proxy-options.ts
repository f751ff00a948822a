/** Options of the proxy for callbacks; the operator hands its own to the workers, by their environment. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { directHostProblem, proxyAddressProblem } from "../callbacks/proxy.ts";
import { PgEventsError } from "../core/errors.ts";
import { NO_PROXY, type ProxySettings } from "../core/settings/proxy.ts";

export interface ProxyFlags {
  readonly httpsProxy?: string;
  readonly proxyExcept: string[];
}

export function withProxyOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--https-proxy <url>",
        "http:// address of the proxy for https:// callbacks (default: none)",
      ).env("PG_EVENTS_HTTPS_PROXY"),
    )
    .addOption(
      new Option(
        "--proxy-except <list>",
        "names with all below them, addresses and ranges that are called directly",
      )
        .env("PG_EVENTS_NO_PROXY")
        .argParser(hosts)
        .default(NO_PROXY, NO_PROXY.join(",")),
    );
}

/** @throws PgEventsError PGE_FLAG_INVALID, without what was given: there may be a password in it */
export function proxyOf({ httpsProxy, proxyExcept }: ProxyFlags): ProxySettings | undefined {
  if (httpsProxy === undefined) return undefined;
  const problem = proxyAddressProblem(httpsProxy);
  if (problem !== null)
    throw new PgEventsError("PGE_FLAG_INVALID", `--https-proxy (PG_EVENTS_HTTPS_PROXY): ${problem}`);
  return { httpsProxy, noProxy: proxyExcept };
}

function hosts(text: string): string[] {
  const entries = text
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "");
  const problem = entries.map(directHostProblem).find((found) => found !== null);
  if (problem !== undefined && problem !== null) throw new InvalidArgumentError(problem);
  return entries;
}
