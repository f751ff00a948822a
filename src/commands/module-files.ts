/**
 * Where the files of module callbacks are: `<directory>/<ConfigMap>/<key>`, the layout of the worker pod's
 * volume and of `--modules`, or a path.
 */
import { dirname, resolve } from "node:path";
import type { ModuleSpec } from "../core/api/callback.ts";
import type { PgEventSource } from "../core/api/source.ts";
import type { ModuleFunctions } from "../core/delivery/module-functions.ts";
import { PgEventsError } from "../core/errors.ts";

export interface ModuleOptions {
  /** Directory with `<ConfigMap>/<key>` files. */
  readonly modules?: string | undefined;
  /** File of the source: relative paths start from its directory, or else from the current one. */
  readonly manifest?: string | undefined;
}

/** @throws PgEventsError PGE_MODULES_MISSING when a callback of the source names a ConfigMap and there is no directory */
export function moduleFiles(
  source: PgEventSource,
  { modules, manifest }: ModuleOptions,
): (module: ModuleSpec) => ModuleFunctions {
  const base = manifest === undefined ? "" : dirname(manifest);
  const functionsOf = ({ configMapRef, path }: ModuleSpec): ModuleFunctions => {
    if (configMapRef === undefined) return { kind: "Module", file: resolve(base, path ?? "") };
    const { name, key } = configMapRef;
    if (modules !== undefined && modules !== "") return { kind: "Module", file: resolve(modules, name, key) };
    throw new PgEventsError(
      "PGE_MODULES_MISSING",
      `A callback runs the module in key ${key} of ConfigMap ${name}, and no directory with its file is given.`,
      {
        remedy: `Set --modules or PG_EVENTS_MODULES_DIR to a directory that holds ${name}/${key}, or use \`path\`.`,
      },
    );
  };
  for (const { module } of source.spec.callbacks) if (module !== undefined) functionsOf(module);
  return functionsOf;
}
