/** A pod's volumes as directories, and the private view of the file system in which its process sees them. */
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Container, Pod, Secret, Volume } from "./pod-objects.ts";

export const IS_ROOT = process.getuid?.() === 0;

export type ReadSecretObject = (name: string) => Secret | undefined;

export class PodVolumes {
  readonly #pod: Pod;
  readonly #read: ReadSecretObject;
  readonly directory = mkdtempSync(join(tmpdir(), "pg-events-pod-"));

  constructor(pod: Pod, read: ReadSecretObject) {
    this.#pod = pod;
    this.#read = read;
    chmodSync(this.directory, 0o755);
    for (const volume of pod.spec.volumes ?? []) {
      const path = this.pathOf(volume.name);
      mkdirSync(path);
      this.#own(path, volume.emptyDir === undefined ? 0o750 : 0o770);
    }
    this.writeSecrets();
  }

  pathOf(volume: string): string {
    return join(this.directory, `volume-${volume}`);
  }

  /** Writes what is in the Secrets now, each file at once; a key that is gone takes its file away. */
  writeSecrets(): void {
    for (const volume of this.#pod.spec.volumes ?? []) this.#project(volume);
  }

  /** Where the container sees its volumes: at their mount paths as root, else where they are. */
  visiblePath(container: Container, mountPath: string): string {
    const mount = container.volumeMounts?.find((one) => one.mountPath === mountPath);
    return IS_ROOT || mount === undefined ? mountPath : this.pathOf(mount.name);
  }

  /**
   * A command that runs another one as the container's user, in a mount namespace of its own: the volumes
   * at their mount paths, all else read-only, no way to gain rights, dead when we are.
   */
  wrap(container: Container, command: readonly string[]): string[] {
    if (!IS_ROOT) return [...command];
    const {
      runAsUser = 65_532,
      runAsGroup = 65_532,
      fsGroup = 65_532,
    } = this.#pod.spec.securityContext ?? {};
    const etc = join(this.directory, "etc");
    if (!existsSync(etc)) cpSync("/etc", etc, { recursive: true, verbatimSymlinks: true, filter: readable });
    const binds = (container.volumeMounts ?? []).map(({ name, mountPath, readOnly }) => {
      const point = mountPath.startsWith("/etc/") ? join(etc, mountPath.slice("/etc/".length)) : mountPath;
      mkdirSync(point, { recursive: true });
      const bind = `mount --bind ${this.pathOf(name)} ${mountPath}`;
      return readOnly ? `${bind} && mount -o remount,bind,ro ${mountPath}` : bind;
    });
    // Binds inherit "read-only", so the root comes last; /tmp may cover the volumes, so it comes late.
    const order = binds.toSorted((a, b) => Number(a.includes(" /tmp")) - Number(b.includes(" /tmp")));
    const script = [
      `mount --bind ${etc} /etc`,
      ...order,
      "mount -o remount,bind,ro /etc",
      "mount -o remount,bind,ro /",
      `exec setpriv --reuid ${runAsUser} --regid ${runAsGroup} --groups ${fsGroup} --no-new-privs --bounding-set -all --inh-caps -all --pdeathsig KILL "$@"`,
    ].join(" && ");
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", ...command];
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  #project({ name, projected }: Volume): void {
    if (projected === undefined) return;
    const mode = projected.defaultMode ?? 0o644;
    for (const { secret } of projected.sources) {
      const data = this.#read(secret.name)?.data ?? {};
      for (const { key, path } of secret.items ?? []) {
        this.#write(join(this.pathOf(name), path), data[key], mode);
      }
    }
  }

  #write(file: string, base64: string | undefined, mode: number): void {
    if (base64 === undefined) {
      rmSync(file, { force: true });
      return;
    }
    const value = Buffer.from(base64, "base64");
    if (existsSync(file) && readFileSync(file).equals(value)) return;
    mkdirSync(dirname(file), { recursive: true });
    this.#own(dirname(file), 0o750);
    writeFileSync(`${file}.new`, value);
    this.#own(`${file}.new`, mode);
    renameSync(`${file}.new`, file);
  }

  #own(path: string, mode: number): void {
    if (IS_ROOT) chownSync(path, 0, this.#pod.spec.securityContext?.fsGroup ?? 65_532);
    chmodSync(path, IS_ROOT ? mode : mode | 0o600);
  }
}

/** Sockets and the like cannot be copied, and what only root reads is not for a container. */
function readable(path: string): boolean {
  return !/^\/etc\/(shadow|gshadow|ssl\/private|sudoers)/.test(path);
}
