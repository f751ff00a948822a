import { ERRORS } from "../../src/core/errors.ts";
import { code, GENERATED_MARKDOWN, table } from "./markdown.ts";

/** docs/reference/errors.md */
export function errorReference(): string {
  const rows = Object.entries(ERRORS).map(([name, meaning]) => [code(name), meaning]);
  return `${GENERATED_MARKDOWN}\n\n# Errors\n\nEach message begins with its code, and says what, where and what to do.\n\n${table(["code", "meaning"], rows)}\n`;
}
