/** SQL conditions of a spec: kept within the brackets they are put in. Pure. */

/**
 * Why a text cannot be one SQL condition and nothing more; null when it can. Whether it means something, and
 * uses nothing it may not, PostgreSQL says (`check_condition` in sql/functions_capture.sql).
 */
export function conditionProblem(text: string): string | null {
  if (text.trim() === "") return "must not be empty";
  // With these a text could end elsewhere than it seems to.
  if (/[\0\\$]/.test(text)) return "must not hold a backslash, $ or NUL";
  let bare = "";
  for (const [token] of text.matchAll(/'(?:[^']|'')*'|"(?:[^"]|"")*"|[\s\S]/g)) {
    const quoted = token.length > 1;
    // E'…', U&'…' and their like have other ends.
    if (quoted && /[\w&\u0080-\uffff]$/.test(bare)) return "must have a space or an operator before a quote";
    if (!quoted && /['"]/.test(token)) return "has a quote that does not end";
    bare += quoted ? " " : token;
  }
  if (bare.includes(";")) return "must not hold ;";
  if (/--|\/\*/.test(bare)) return "must not hold a comment";
  return bracketProblem(bare);
}

function bracketProblem(bare: string): string | null {
  let depth = 0;
  for (const character of bare) {
    if (character === "(") depth += 1;
    if (character === ")") depth -= 1;
    if (depth < 0) return "closes a bracket that it did not open";
  }
  return depth > 0 ? "opens a bracket that it does not close" : null;
}
