/**
 * Runs the tests with what they need: a PostgreSQL server and a Kubernetes control plane, each started
 * once for the run and only when a chosen suite uses it. Whatever ends the run, both are stopped.
 *
 *   node scripts/test.ts                           all suites
 *   node scripts/test.ts core postgres             suites
 *   node scripts/test.ts test/core/a.test.ts       files
 *   node scripts/test.ts --only-matching G1        tests whose name matches, of all suites or of those named
 *
 * The last line is `N passed, N failed, N skipped`. Exit code 1 when a test failed, or when none ran.
 */
import { existsSync, globSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const ROOT = join(import.meta.dirname, "..");
const TEST_TIMEOUT_MS = 120_000;

interface Suite {
  readonly needsPostgres: boolean;
  readonly needsControlPlane: boolean;
  /** Files that run at once. */
  readonly concurrency: number;
}

const SUITES: Readonly<Record<string, Suite>> = {
  core: { needsPostgres: false, needsControlPlane: false, concurrency: 2 },
  artifacts: { needsPostgres: false, needsControlPlane: true, concurrency: 2 },
  postgres: { needsPostgres: true, needsControlPlane: false, concurrency: 2 },
  callbacks: { needsPostgres: true, needsControlPlane: false, concurrency: 2 },
  kubernetes: { needsPostgres: true, needsControlPlane: true, concurrency: 1 },
  e2e: { needsPostgres: true, needsControlPlane: true, concurrency: 1 },
};

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** What the run started, the last one first. */
const running: { stop(): Promise<void> | void }[] = [];
const interrupted = new AbortController();

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => interrupted.abort());

const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { "only-matching": { type: "string" } },
  });
  const chosen = chosenFiles(positionals);
  await startServers(Object.keys(chosen));
  for (const [suite, files] of Object.entries(chosen))
    await runSuite(suite, files, values["only-matching"], counts);
} catch (error) {
  counts.failed += 1;
  console.error(error instanceof Error ? error.message : error);
} finally {
  for (const { stop } of running) await stop();
}
if (counts.passed + counts.failed === 0) console.log("No test ran.");
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed > 0 || counts.passed === 0 || interrupted.signal.aborted ? 1 : 0);

/** The files to run, by suite, in the order of SUITES: the quick ones first. */
function chosenFiles(args: readonly string[]): Record<string, string[]> {
  const wanted = args.length === 0 ? Object.keys(SUITES) : args;
  const files = wanted.flatMap((arg) => (arg in SUITES ? filesOf(arg) : [existingFile(arg)]));
  const bySuite = Object.keys(SUITES).map((suite) => {
    const own = files.filter((file) => dirname(relative(join(ROOT, "test"), file)).split("/")[0] === suite);
    return [suite, [...new Set(own)].sort()] as const;
  });
  return Object.fromEntries(bySuite.filter(([, own]) => own.length > 0));
}

function filesOf(suite: string): string[] {
  return globSync(`test/${suite}/**/*.test.ts`, { cwd: ROOT }).map((path) => join(ROOT, path));
}

function existingFile(arg: string): string {
  const file = resolve(arg);
  const suite = relative(join(ROOT, "test"), file).split("/")[0] ?? "";
  if (existsSync(file) && suite in SUITES) return file;
  throw new Error(`${arg} is neither a suite (${Object.keys(SUITES).join(", ")}) nor a test file of one.`);
}

async function startServers(suites: readonly string[]): Promise<void> {
  const needs = suites.map((suite) => SUITES[suite]);
  if (needs.some((suite) => suite?.needsPostgres) && !process.env.PG_EVENTS_TEST_POSTGRES_URL) {
    const { startSharedServer } = await import("../test/support/postgres.ts");
    const server = await startSharedServer();
    running.unshift(server);
    process.env.PG_EVENTS_TEST_POSTGRES_URL = server.url;
  }
  if (needs.some((suite) => suite?.needsControlPlane) && !process.env.PG_EVENTS_TEST_CONTROL_PLANE) {
    await startControlPlane();
  }
}

interface ControlPlane {
  /** Path of its admin kubeconfig. */
  readonly kubeconfig: string;
  stop(): Promise<void> | void;
}

/** Without one the tests that need it skip themselves, except in CI. */
async function startControlPlane(): Promise<void> {
  const file = join(ROOT, "test/support/control-plane.ts");
  if (!existsSync(file) || interrupted.signal.aborted) return;
  const module = (await import(pathToFileURL(file).href)) as { startControlPlane(): Promise<ControlPlane> };
  try {
    const controlPlane = await module.startControlPlane();
    running.unshift(controlPlane);
    process.env.PG_EVENTS_TEST_CONTROL_PLANE = dirname(controlPlane.kubeconfig);
    process.env.KUBECONFIG = controlPlane.kubeconfig;
  } catch (error) {
    if (process.env.CI) throw error;
    console.error(`No Kubernetes control plane: ${error instanceof Error ? error.message : error}`);
  }
}

/** Prints a suite's report while it runs, and adds up its tests (not the `describe` blocks around them). */
async function runSuite(
  suite: string,
  files: string[],
  namePattern: string | undefined,
  sum: Counts,
): Promise<void> {
  if (interrupted.signal.aborted) return;
  console.log(`\n${suite}`);
  const events = run({
    files,
    isolation: "process",
    concurrency: SUITES[suite]?.concurrency ?? 1,
    timeout: TEST_TIMEOUT_MS,
    execArgv: ["--import", pathToFileURL(join(ROOT, "test/support/leave.ts")).href],
    ...(namePattern === undefined ? {} : { testNamePatterns: [new RegExp(namePattern)] }),
    signal: interrupted.signal,
    cwd: ROOT,
  });
  events.on("test:pass", (event) => {
    // A file without a test that ran is reported as one that passed.
    if (event.details.type === "suite" || files.includes(event.name)) return;
    if (event.skip !== undefined || event.todo !== undefined) sum.skipped += 1;
    else sum.passed += 1;
  });
  events.on("test:fail", (event) => {
    if (event.details.type !== "suite" || failureType(event.details.error) !== "subtestsFailed")
      sum.failed += 1;
  });
  for await (const text of events.compose(spec())) process.stdout.write(text);
}

/** node:test's word for what failed; its type declarations leave it out. */
function failureType(error: Error): string | undefined {
  return (error as { failureType?: string }).failureType;
}
