/** One pod of one container as a process, with its probes; see kubelet.ts. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "./cluster/free-port.ts";
import type { Container, Pod } from "./pod-objects.ts";
import { PodVolumes, type ReadSecretObject } from "./pod-volumes.ts";

/** What the image's entrypoint, `node /app/dist/cli.js`, is in the checkout. */
const ENTRYPOINT = [process.execPath, join(import.meta.dirname, "../../src/cli.ts")];
/** The real kubelet asks every periodSeconds; tests do not wait for that. */
const PROBE_MS = 250;
const RESTART_MS = 1000;

/** Told of the pod's status; told again later when it rejects. */
export type StatusListener = (status: unknown) => Promise<void>;

export class PodProcess {
  readonly pod: Pod;
  output = "";
  readonly #container: Container;
  readonly #volumes: PodVolumes;
  readonly #ports = new Map<string, number>();
  readonly #stopping = new AbortController();
  #child: ChildProcess | null = null;
  #restarts = 0;
  #ready: boolean | null = null;
  readonly #listener: StatusListener;

  static async start(pod: Pod, read: ReadSecretObject, listener: StatusListener): Promise<PodProcess> {
    const container = pod.spec.containers[0];
    if (container === undefined || pod.spec.containers.length !== 1)
      throw new Error("only pods of one container");
    const one = new PodProcess(pod, container, read, listener);
    for (const { name } of container.ports ?? []) one.#ports.set(name, await freePort());
    void one.#run();
    return one;
  }

  private constructor(pod: Pod, container: Container, read: ReadSecretObject, listener: StatusListener) {
    this.#listener = listener;
    this.pod = pod;
    this.#container = container;
    this.#volumes = new PodVolumes(pod, read);
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** The address of a named port. */
  url(port: string, path = ""): string {
    return `http://127.0.0.1:${this.#ports.get(port)}${path}`;
  }

  writeSecrets(): void {
    if (!this.#stopping.signal.aborted) this.#volumes.writeSecrets();
  }

  /** SIGTERM, and SIGKILL when the grace period is over. */
  async terminate(graceSeconds: number): Promise<void> {
    this.#stopping.abort();
    const child = this.#child;
    if (child !== null && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), graceSeconds * 1000);
      await ended;
      clearTimeout(timer);
    }
    this.#volumes.remove();
  }

  kill(): Promise<void> {
    return this.terminate(0);
  }

  async #run(): Promise<void> {
    void this.#probe();
    while (!this.#stopping.signal.aborted) {
      const [file = "", ...args] = this.#volumes.wrap(this.#container, [
        ...ENTRYPOINT,
        ...(this.#container.args ?? []),
      ]);
      const child = spawn(file, args, {
        env: this.#environment(),
        cwd: "/",
        stdio: ["ignore", "pipe", "pipe"],
      });
      this.#child = child;
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding("utf8").on("data", (text: string) => {
          this.output += text;
        });
      }
      await Promise.race([once(child, "exit"), once(child, "error")]);
      if (this.#stopping.signal.aborted) return;
      this.#restarts += 1;
      await this.#note(false);
      await sleep(RESTART_MS, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
  }

  /** Only what the pod says, and what an image has. */
  #environment(): NodeJS.ProcessEnv {
    const environment: Record<string, string> = {
      PATH: process.env.PATH ?? "",
      HOSTNAME: this.pod.metadata.name,
    };
    for (const { name, value = "", valueFrom } of this.#container.env ?? []) {
      environment[name] =
        valueFrom === undefined
          ? expand(value, environment)
          : this.#field(valueFrom.fieldRef?.fieldPath ?? "");
    }
    const directory = environment.PG_EVENTS_SECRETS_DIR;
    if (directory !== undefined)
      environment.PG_EVENTS_SECRETS_DIR = this.#volumes.visiblePath(this.#container, directory);
    for (const [port, number] of this.#ports)
      environment[`PG_EVENTS_${port.toUpperCase()}_ADDRESS`] = `127.0.0.1:${number}`;
    return environment;
  }

  #field(path: string): string {
    const [first, field = ""] = path.split(".");
    const value =
      first === "metadata" ? (this.pod.metadata as unknown as Record<string, unknown>)[field] : undefined;
    if (typeof value !== "string") throw new Error(`fieldRef ${path} is not known here`);
    return value;
  }

  async #probe(): Promise<void> {
    const { readinessProbe, livenessProbe } = this.#container;
    let dead = 0;
    let probes = 0;
    while (!this.#stopping.signal.aborted) {
      await this.#note(readinessProbe === undefined || (await this.#asks(readinessProbe.httpGet)));
      // Restarting is for what hangs for long: as often as the pod says, counted in our shorter rounds.
      const period = Math.max(1, Math.round(((livenessProbe?.periodSeconds ?? 10) * 1000) / PROBE_MS));
      probes += 1;
      if (livenessProbe !== undefined && probes % period === 0) {
        dead = (await this.#asks(livenessProbe.httpGet)) ? 0 : dead + 1;
        if (dead >= (livenessProbe.failureThreshold ?? 3) * 3) this.#child?.kill("SIGKILL");
      }
      await sleep(PROBE_MS, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
  }

  async #asks({ path, port }: { path: string; port: string | number }): Promise<boolean> {
    try {
      const response = await fetch(this.url(String(port), path), { signal: AbortSignal.timeout(3000) });
      await response.text();
      return response.ok;
    } catch {
      return false;
    }
  }

  /** Reports the pod's state when it changed. */
  async #note(ready: boolean): Promise<void> {
    if (ready === this.#ready || this.#stopping.signal.aborted) return;
    this.#ready = ready;
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const condition = (type: string, value: boolean) => ({
      type,
      status: value ? "True" : "False",
      lastTransitionTime: now,
    });
    const { name, image } = this.#container;
    const status = {
      phase: "Running",
      hostIP: "127.0.0.1",
      podIP: "127.0.0.1",
      podIPs: [{ ip: "127.0.0.1" }],
      startTime: now,
      conditions: [
        condition("PodScheduled", true),
        condition("Initialized", true),
        condition("ContainersReady", ready),
        condition("Ready", ready),
      ],
      containerStatuses: [
        {
          name,
          image,
          imageID: image,
          ready,
          started: true,
          restartCount: this.#restarts,
          state: { running: { startedAt: now } },
        },
      ],
    };
    await this.#listener(status).catch(() => {
      this.#ready = null;
    });
  }
}

/** `$(NAME)` of variables set before, as the kubelet does it; `$$` is one `$`. */
function expand(value: string, known: Readonly<Record<string, string>>): string {
  return value.replace(/\$(\$|\(([^)]*)\))/g, (whole, inner: string, name: string | undefined) =>
    inner === "$" ? "$" : ((name === undefined ? undefined : known[name]) ?? whole),
  );
}
