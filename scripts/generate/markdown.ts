/** A table of GitHub's Markdown; a cell never breaks it. */
export function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.map(cell).join(" | ")} |`;
  return [line(head), `| ${head.map(() => "---").join(" | ")} |`, ...rows.map(line)].join("\n");
}

export const code = (text: string) => `\`${text}\``;

export const GENERATED_MARKDOWN =
  "<!-- Written by scripts/generate.ts; edit its source and run `npm run generate`. -->";

/** A pipe splits cells even inside of back-ticks, and angle brackets outside of them would be markup. */
function cell(text: string): string {
  const parts = text.replaceAll("|", "\\|").replaceAll("\n", " ").split("`");
  return parts.map((part, index) => (index % 2 === 0 ? part.replaceAll("<", "&lt;") : part)).join("`");
}
