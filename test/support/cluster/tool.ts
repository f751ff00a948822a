import { spawn } from "node:child_process";

export interface ToolOptions {
  /** Written to its stdin. */
  readonly input?: string;
  /** Path of the kubeconfig it works with. */
  readonly kubeconfig?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a command-line program to its end and returns its stdout. @throws Error with its stderr when it fails */
export function runTool(
  file: string,
  args: readonly string[],
  { input = "", kubeconfig, env = {} }: ToolOptions,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const settings = {
      ...process.env,
      ...(kubeconfig === undefined ? {} : { KUBECONFIG: kubeconfig }),
      ...env,
    };
    const child = spawn(file, args, { stdio: "pipe", env: settings });
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const)
      child[name].setEncoding("utf8").on("data", (text: string) => (output[name] += text));
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve(output.stdout);
      else
        reject(
          new Error(
            `${file.split("/").at(-1)} ${args.join(" ")}: exit ${code}\n${output.stderr}${output.stdout}`,
          ),
        );
    });
    // A program that ends without reading its input is judged by its exit code.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
  });
}
