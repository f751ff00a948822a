/** The SQL of a build for psql. Pure. */
import { type Finding, findingText } from "./findings.ts";

/**
 * Findings are comments, so that the text can be run as it is.
 * @param sql transactions
 */
export function sqlScript(sql: readonly string[], findings: readonly Finding[] = []): string {
  const remarks = findings.map((one) =>
    `-- ${one.severity} ${findingText(one)}`.replaceAll(/\s*\n\s*/g, " "),
  );
  const body = sql.length === 0 ? ["-- nothing to do"] : ["set client_encoding = 'UTF8';", ...sql];
  return `${[...remarks, ...body].join("\n\n")}\n`;
}
