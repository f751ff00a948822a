/**
 * Runs the tests with what they need: a PostgreSQL server and a Kubernetes control plane, each started
 * once for the run and only when a chosen suite uses it. Whatever ends the run, both are stopped.
 *
 *   node scripts/test.ts                           all suites
 *   node scripts/test.ts core postgres             suites
 *   node scripts/test.ts versions                  the suite postgres, on each other major of PostgreSQL
 *   node scripts/test.ts cluster                   in a node's namespaces only: scripts/test-cluster.ts
 *   node scripts/test.ts test/core/a.test.ts       files
 *   node scripts/test.ts --only-matching G1        tests whose name matches, of all suites or of those named
 *
 * What failed is told again at the end; the last line is `N passed, N failed, N skipped`. Exit code 1 when a
 * test failed, or when none ran.
 */
import { existsSync, globSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { pathToFileURL } from "node:url";
import { inspect, parseArgs } from "node:util";
import { ACCOUNT } from "../test/support/processes.ts";

const ROOT = join(import.meta.dirname, "..");
const TEST_TIMEOUT_MS = 120_000;

interface Suite {
  readonly needsPostgres: boolean;
  readonly needsControlPlane: boolean;
  /** Makes programs of its tests before, as that takes longer than a test may. @returns what is missing, or false for each */
  readonly makePrograms?: () => Promise<(string | false)[]>;
  /** Files that run at once. */
  readonly concurrency: number;
  /** Pattern of files that it runs once for each supported major of PostgreSQL but the embedded one. */
  readonly onEveryMajor?: string;
  /** Runs only when it is named, by scripts/test-cluster.ts. */
  readonly onlyByName?: boolean;
  readonly timeoutMs?: number;
}

const brokers = async () => {
  const { natsMissing } = await import("../test/support/brokers/nats-server.ts");
  const { kafkaMissing } = await import("../test/support/brokers/kafka-server.ts");
  return Promise.all([natsMissing(), kafkaMissing()]);
};
const chartTests = async () => {
  const { helmUnittestMissing } = await import("../test/support/helm-unittest.ts");
  return [await helmUnittestMissing()];
};

const SUITES: Readonly<Record<string, Suite>> = {
  core: { needsPostgres: false, needsControlPlane: false, concurrency: 2 },
  artifacts: { needsPostgres: false, needsControlPlane: true, makePrograms: chartTests, concurrency: 2 },
  postgres: { needsPostgres: true, needsControlPlane: false, concurrency: 2 },
  callbacks: { needsPostgres: true, needsControlPlane: false, makePrograms: brokers, concurrency: 2 },
  kubernetes: { needsPostgres: true, needsControlPlane: true, concurrency: 1 },
  e2e: { needsPostgres: true, needsControlPlane: true, makePrograms: brokers, concurrency: 1 },
  versions: {
    needsPostgres: false,
    needsControlPlane: false,
    concurrency: 3, // those that take longest wait for locks
    onEveryMajor: "test/postgres/!(embedded-postgres).test.ts", // that one is about the embedded server itself
  },
  cluster: {
    needsPostgres: false,
    needsControlPlane: false, // it starts one with a node
    concurrency: 1,
    onlyByName: true,
    timeoutMs: 30 * 60_000,
  },
};

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** What failed, and what its processes wrote: the place in a long report is hard to find, and may be cut off. */
const failures: string[] = [];

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
  for (const [suite, files] of Object.entries(chosen)) {
    const own = files.filter((file) => suiteOf(file) === suite);
    const part = { suite, namePattern: values["only-matching"] };
    if (own.length > 0) await runSuite({ ...part, files: own }, counts);
    if (own.length < files.length) {
      await runOnEveryMajor({ ...part, files: files.filter((file) => !own.includes(file)) }, counts);
    }
  }
} catch (error) {
  counts.failed += 1;
  console.error(error instanceof Error ? error.message : error);
} finally {
  for (const { stop } of running) await stop();
}
for (const failure of failures) console.log(`\n${failure}`);
if (counts.passed + counts.failed === 0) console.log("No test ran.");
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed > 0 || counts.passed === 0 || interrupted.signal.aborted ? 1 : 0);

/** The files to run, by suite, in the order of SUITES: the quick ones first. */
function chosenFiles(args: readonly string[]): Record<string, string[]> {
  const named = args.filter((arg) => !(arg in SUITES)).map(existingFile);
  const bySuite = Object.keys(SUITES).map((suite) => {
    const all = args.length === 0 && SUITES[suite]?.onlyByName !== true;
    const whole = all || args.includes(suite) ? filesOf(suite) : [];
    const own = [...whole, ...named.filter((file) => suiteOf(file) === suite)];
    return [suite, [...new Set(own)].sort()] as const;
  });
  return Object.fromEntries(bySuite.filter(([, own]) => own.length > 0));
}

function filesOf(suite: string): string[] {
  const patterns = [`test/${suite}/**/*.test.ts`, SUITES[suite]?.onEveryMajor ?? []].flat();
  return globSync(patterns, { cwd: ROOT }).map((path) => join(ROOT, path));
}

function suiteOf(file: string): string {
  return relative(join(ROOT, "test"), file).split("/")[0] ?? "";
}

function existingFile(arg: string): string {
  const file = resolve(arg);
  if (existsSync(file) && suiteOf(file) in SUITES) return file;
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
  // Without them the tests that need them skip themselves, except in CI.
  for (const make of new Set(needs.flatMap((suite) => suite?.makePrograms ?? []))) {
    if (interrupted.signal.aborted) return;
    for (const reason of await make()) if (reason) console.error(reason);
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

interface Part {
  readonly suite: string;
  readonly files: string[];
  readonly namePattern: string | undefined;
  /** Follows the suite's name in the heading. */
  readonly heading?: string;
}

/** A major whose server cannot be had counts as skipped, in CI as failed. */
async function runOnEveryMajor(part: Part, sum: Counts): Promise<void> {
  const { OTHER_MAJORS, startMajor } = await import("../test/support/postgres-versions.ts");
  const given = process.env.PG_EVENTS_TEST_POSTGRES_URL;
  for (const major of OTHER_MAJORS) {
    if (interrupted.signal.aborted) return;
    const started = await startMajor(major).catch((error: Error) => {
      sum[process.env.CI ? "failed" : "skipped"] += 1;
      console.error(`\n${part.suite}: no PostgreSQL ${major}: ${error.message}`);
    });
    if (started === undefined) continue;
    running.unshift(started.server);
    process.env.PG_EVENTS_TEST_POSTGRES_URL = started.server.url;
    process.env.PG_EVENTS_TEST_POSTGRES_MAJOR = major; // of servers that tests start themselves
    await runSuite({ ...part, heading: `on PostgreSQL ${started.version}` }, sum);
    await started.server.stop();
    running.shift();
  }
  delete process.env.PG_EVENTS_TEST_POSTGRES_MAJOR;
  if (given === undefined) delete process.env.PG_EVENTS_TEST_POSTGRES_URL;
  else process.env.PG_EVENTS_TEST_POSTGRES_URL = given;
}

/** Prints a suite's report while it runs, and adds up its tests (not the `describe` blocks around them). */
async function runSuite({ suite, files, namePattern, heading = "" }: Part, sum: Counts): Promise<void> {
  if (interrupted.signal.aborted) return;
  const title = `${suite} ${heading}`.trimEnd();
  console.log(`\n${title}`);
  const events = run({
    files,
    isolation: "process",
    concurrency: SUITES[suite]?.concurrency ?? 1,
    timeout: SUITES[suite]?.timeoutMs ?? TEST_TIMEOUT_MS,
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
    const { error, type } = event.details;
    if (type === "suite" && failureType(error) === "subtestsFailed") return;
    sum.failed += 1;
    const where = event.file === undefined ? "" : `, ${relative(ROOT, event.file)}:${event.line}`;
    failures.push(`✖ ${event.name} (${title}${where})\n${inspect(error.cause ?? error)}`);
  });
  events.on("test:diagnostic", ({ message }) => {
    if (message.startsWith(ACCOUNT)) failures.push(message);
  });
  for await (const text of events.compose(spec())) process.stdout.write(text);
}

/** node:test's word for what failed; its type declarations leave it out. */
function failureType(error: Error): string | undefined {
  return (error as { failureType?: string }).failureType;
}
