/**
 * Asks the registry for known holes in what the lockfile has: `npm audit`, with an exit code that CI can use.
 *
 *   node scripts/audit.ts
 *
 * Exit code 1 when there is one of severity high or critical. Where the registry cannot say (a mirror without that
 * endpoint, no network) it says so loudly, and the exit code is 0: nothing was checked then.
 */
import { spawnSync } from "node:child_process";

const FATAL = ["high", "critical"];

interface Hole {
  readonly name: string;
  readonly severity: string;
  readonly via: readonly (string | { readonly title: string; readonly url: string })[];
}

interface Report {
  readonly vulnerabilities?: Readonly<Record<string, Hole>>;
  readonly message?: string;
  readonly error?: { readonly summary?: string };
}

const { stdout, stderr } = spawnSync("npm", ["audit", "--json", "--fetch-retries=1"], { encoding: "utf8" });
const report = parsed(stdout);
if (report.vulnerabilities === undefined)
  tellLoudly(report.message ?? report.error?.summary ?? stderr.trim());
else tell(Object.values(report.vulnerabilities));

function tell(holes: readonly Hole[]): void {
  for (const { name, severity, via } of holes) {
    const why = via.map((one) => (typeof one === "string" ? `by ${one}` : `${one.title} ${one.url}`));
    console.log(`${severity}: ${name}: ${why.join("; ")}`);
  }
  const packages = `${holes.length} ${holes.length === 1 ? "package" : "packages"}`;
  console.log(holes.length === 0 ? "No known holes in the dependencies." : `${packages} with known holes.`);
  if (holes.some(({ severity }) => FATAL.includes(severity))) process.exitCode = 1;
}

function tellLoudly(reason: string): void {
  const text = `DEPENDENCIES WERE NOT CHECKED FOR KNOWN HOLES: the registry does not say (${reason.split("\n")[0]})`;
  // Of GitHub: an annotation on the run's page.
  console.log(process.env.GITHUB_ACTIONS ? `::warning::${text}` : `\n!!! ${text}\n`);
}

function parsed(text: string): Report {
  try {
    return JSON.parse(text) as Report;
  } catch {
    return {};
  }
}
