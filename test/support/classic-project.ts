/** A directory with the files of a project that uses classic settings; the commands run in it. */
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { TestEnd } from "./postgres.ts";
import { type CliProcess, runCli, startCli } from "./processes.ts";

export const CALLBACKS = `
import { appendFileSync } from "node:fs";
export const onData = (payload) => appendFileSync("received.txt", payload + "\\n");
export const onSchema = async (payload) => appendFileSync("schema.txt", payload + "\\n");
`;

export interface ClassicProject {
  readonly directory: string;
  run(
    args: readonly string[],
    env?: Readonly<Record<string, string>>,
  ): Promise<{ code: number | null; stdout: string; stderr: string }>;
  startWorker(args: readonly string[], env?: Readonly<Record<string, string>>): CliProcess;
  /** The lines of a file; none when there is no such file yet. */
  lines(file: string): string[];
  write(file: string, text: string): void;
}

export function classicProject(t: TestEnd, files: Readonly<Record<string, string>>): ClassicProject {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "pg-events-classic-")));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const write = (file: string, text: string) => {
    mkdirSync(dirname(join(directory, file)), { recursive: true });
    writeFileSync(join(directory, file), text);
  };
  for (const [file, text] of Object.entries(files)) write(file, text);
  const addresses = ["--metrics-address", "127.0.0.1:0", "--probes-address", "127.0.0.1:0"];
  return {
    directory,
    write,
    run: (args, env = {}) => runCli(t, args, { cwd: directory, env }),
    startWorker: (args, env = {}) => startCli(t, ["worker", ...addresses, ...args], { cwd: directory, env }),
    lines(file) {
      try {
        return readFileSync(join(directory, file), "utf8").split("\n").slice(0, -1);
      } catch {
        return [];
      }
    },
  };
}

/** Settings in YAML or as the exports of a JavaScript module, with the values in double quotes. */
export function settingsText(kind: "yaml" | "exports" | "default", values: Record<string, string>): string {
  const lines = Object.entries(values).map(([name, value]) => {
    const text = JSON.stringify(value);
    return kind === "exports" ? `export const ${name} = ${text};` : `${name}: ${text}`;
  });
  return kind === "default" ? `export default {\n${lines.join(",\n")}\n};\n` : `${lines.join("\n")}\n`;
}
