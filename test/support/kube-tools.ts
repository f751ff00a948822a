/** File names of the real helm and kubectl, and the cluster they work on. */
import { existsSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { kubeProgram } from "./cluster/binary.ts";
import { helmProgram } from "./cluster/helm.ts";
import { useControlPlane } from "./control-plane.ts";

/** helm as in cluster/helm.ts, which also looks on PATH. */
export const helm = async (): Promise<string> => helmProgram() ?? "helm";

/** `KUBECTL`, or the control plane's program, which is kubectl under that name. */
export async function kubectl(): Promise<string> {
  const program = process.env.KUBECTL ?? (await kubeProgram());
  if (program === null || program === process.env.KUBECTL) return program ?? "kubectl";
  const link = join(dirname(program), "kubectl");
  try {
    symlinkSync(program, link);
  } catch (error) {
    if (!existsSync(link)) throw error; // otherwise another test process made it
  }
  return link;
}

/** An admin's kubeconfig: `KUBECONFIG`, or the one of this process's control plane. */
export async function kubeconfig(): Promise<string> {
  if (process.env.KUBECONFIG) return process.env.KUBECONFIG;
  const plane = await useControlPlane({
    skip: (message) => {
      throw new Error(message);
    },
  });
  return plane?.kubeconfig ?? "";
}
