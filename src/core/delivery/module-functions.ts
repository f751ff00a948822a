/** Which functions a module callback calls, as data: the thread that runs them imports them itself. */

export interface FunctionRef {
  /** Absolute path of a JavaScript or TypeScript file. */
  readonly file: string;
  /** Name of an export, or of a field of the default export. */
  readonly exportName: string;
}

export type ModuleFunctions =
  /** A file that exports `onData` and, if it wants to, `onSchemaChange`; they get objects. */
  | { readonly kind: "Module"; readonly file: string }
  /** The two functions of classic settings, each from a file of its own; they get JSON text, as pg_events gives it. */
  | {
      readonly kind: "Functions";
      readonly onData: FunctionRef;
      /** Null: changes of the schema are passed over. */
      readonly onSchemaChange: FunctionRef | null;
    };

/** Each of the files once. */
export function filesOf(functions: ModuleFunctions): string[] {
  if (functions.kind === "Module") return [functions.file];
  return [...new Set([functions.onData.file, functions.onSchemaChange?.file ?? functions.onData.file])];
}
