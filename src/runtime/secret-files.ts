/**
 * Secrets as files, `<directory>/<secret>/<key>`: the layout of the worker pod's volume and of
 * `--secrets`. Read anew at each use, because the kubelet replaces the files when a Secret changes.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ReadSecret } from "../core/settings/database.ts";
import { hideSecret } from "./log.ts";

const SAFE_PART = /^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$|^[a-zA-Z0-9._-]*[a-zA-Z0-9_-][a-zA-Z0-9._-]*$/;

/**
 * Reads Secrets below a directory.
 * @param hidden says which values are masked in logs from then on
 */
export function secretFiles(
  directory: string | undefined,
  hidden: (secretName: string, key: string) => boolean,
): ReadSecret {
  return (secretName, key) => {
    if (directory === undefined || !SAFE_PART.test(secretName) || !SAFE_PART.test(key)) return undefined;
    try {
      const text = readFileSync(join(directory, secretName, key), "utf8");
      if (hidden(secretName, key)) hideSecret(text.trim());
      return text;
    } catch (error) {
      if (["ENOENT", "ENOTDIR"].includes((error as { code?: string }).code ?? "")) return undefined;
      throw error;
    }
  };
}
