import { FINDINGS, SEVERITIES } from "../../src/core/capture/findings.ts";
import { code, GENERATED_MARKDOWN, table } from "./markdown.ts";

const EXPLAINED = {
  Fatal: "Nothing is built.",
  Error:
    "A part is not captured, or not as the spec wants it; the rest is. The code is also the reason of the condition Built.",
  Warning: "All is built; something should be looked at.",
  Info: "Good to know.",
};

const INTRODUCTION = `What a look at the database can find before anything is changed. \`pg-events build --check\`, \`--dry-run\` and
\`build\` print each finding with its code, what, where and what to do (a GRANT, a setting, a line of the manifest);
\`--json\` has them as \`findings\`. The operator puts errors and warnings into \`status.build.findings\` (32 at most), with
ROLE for the role's name, and the first error into the condition Built.`;

/** docs/reference/findings.md */
export function findingReference(): string {
  const rows = SEVERITIES.flatMap((severity) =>
    Object.entries(FINDINGS)
      .filter(([, kind]) => kind.severity === severity)
      .map(([name, { meaning, error }]) => [
        code(name),
        severity,
        error === undefined ? "" : code(error),
        meaning,
      ]),
  );
  const severities = SEVERITIES.map((severity) => `- ${severity}: ${EXPLAINED[severity]}`).join("\n");
  return `${GENERATED_MARKDOWN}\n\n# Findings\n\n${INTRODUCTION}\n\n${severities}\n\n${table(["code", "severity", "error", "meaning"], rows)}\n`;
}
