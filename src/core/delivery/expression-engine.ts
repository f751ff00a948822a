/**
 * Compiles filter expressions: CEL (Common Expression Language) over one event, once each. Safe to run on what
 * others write into rows: no access to JavaScript, regular expressions in linear time (RE2), and no loop within
 * a loop, so that the work is bounded by the length of the expression times the size of the row.
 */
import { type ASTNode, Environment } from "@marcbachmann/cel-js";
import { RE2JS } from "re2js";
import type { EventCondition } from "./expression.ts";
import { EventVariables } from "./expression-values.ts";

/** Why an expression cannot be used, and where: `column 14: …`. */
export class ExpressionError extends Error {
  /** @param offset characters of the expression before the place */
  constructor(text: string, offset: number, message: string) {
    const lines = text.slice(0, offset).split("\n");
    const line = lines.length > 1 ? `line ${lines.length}, ` : "";
    super(`${line}column ${(lines.at(-1)?.length ?? 0) + 1}: ${message}`);
  }
}

const VARIABLES: Record<string, string> = {
  operation: "string",
  schema: "string",
  table: "string",
  time: "google.protobuf.Timestamp",
  key: "dyn",
  oldKey: "dyn",
  old: "dyn",
  new: "dyn",
  row: "dyn",
  changed: "list<string>",
  context: "map",
};

const LIMITS = {
  maxAstNodes: 500,
  maxDepth: 50,
  maxListElements: 500,
  maxMapEntries: 100,
  maxCallArguments: 8,
};
const LOOPS = new Set(["all", "exists", "exists_one", "map", "filter"]);
/** The library's own runs JavaScript's regular expressions, which can take forever. */
const LINEAR_MATCHES = "linearMatches";

/** Compiled patterns; those of expressions that are in use are among them. */
const patterns = new Map<string, RE2JS>();
const MAX_PATTERNS = 1000;

const environment = newEnvironment();

/** @throws ExpressionError with the place, for what is no expression, names what there is not, or gives no truth value */
export function compileExpression(text: string): EventCondition {
  const run = parse(text);
  forbid(text, run.ast, 0);
  const checked = run.check();
  if (!checked.valid) throw placed(text, checked.error);
  if (checked.type !== "bool" && checked.type !== "dyn") {
    throw new ExpressionError(text, 0, `it gives a value of type ${checked.type}, not true or false`);
  }
  return (event) => {
    const value: unknown = run(new EventVariables(event));
    if (typeof value === "boolean") return value;
    throw new Error("the expression gives neither true nor false");
  };
}

/** Why an expression could not say, and where. The library's messages may quote values of the row; its codes do not. */
export function evaluationProblem(text: string, error: unknown): string {
  const { code = "no_truth_value", range } = error as { code?: string; range?: { start: number } };
  return new ExpressionError(text, range?.start ?? 0, String(code).replaceAll("_", " ")).message;
}

function newEnvironment(): Environment {
  const made = new Environment({ limits: LIMITS });
  for (const [name, type] of Object.entries(VARIABLES)) made.registerVariable(name, type);
  made.registerFunction(`string.${LINEAR_MATCHES}(string): bool`, (text: string, pattern: string) =>
    compiledPattern(pattern).test(text),
  );
  return made;
}

function parse(text: string) {
  try {
    return environment.parse(text);
  } catch (error) {
    throw placed(text, error);
  }
}

/** Refuses what could run for long, and puts the linear `matches` in place of the library's. */
function forbid(text: string, node: unknown, loops: number): void {
  if (Array.isArray(node)) for (const item of node) forbid(text, item, loops);
  if (!isNode(node)) return;
  const refuse = (message: string) => new ExpressionError(text, node.range.start, message);
  if (node.op === "id" && node.args === "cel") throw refuse("`cel.bind` is not supported");
  if (node.op !== "rcall") {
    forbid(text, node.args, loops);
    return;
  }
  const [name, receiver, args] = node.args;
  forbid(text, receiver, loops);
  const inner = LOOPS.has(name) ? loops + 1 : loops;
  if (inner > 1) throw refuse(`\`${name}\` may not stand within another loop`);
  forbid(text, args, inner);
  if (name !== "matches") return;
  const [pattern] = args;
  if (pattern?.op !== "value" || typeof pattern.args !== "string") {
    throw refuse("`matches` takes a pattern that is written out in the expression");
  }
  try {
    compiledPattern(pattern.args);
  } catch {
    throw new ExpressionError(text, pattern.range.start, "the pattern is no regular expression of RE2");
  }
  (node.args as [string, ...unknown[]])[0] = LINEAR_MATCHES;
}

function isNode(value: unknown): value is ASTNode {
  return typeof value === "object" && value !== null && "op" in value;
}

function compiledPattern(pattern: string): RE2JS {
  let compiled = patterns.get(pattern);
  if (compiled === undefined) {
    compiled = RE2JS.compile(pattern);
    if (patterns.size >= MAX_PATTERNS) patterns.clear();
    patterns.set(pattern, compiled);
  }
  return compiled;
}

function placed(text: string, error: unknown): ExpressionError {
  const { summary, range, message } = error as {
    summary?: string;
    range?: { start: number };
    message: string;
  };
  return new ExpressionError(
    text,
    range?.start ?? 0,
    (summary ?? message).replaceAll(LINEAR_MATCHES, "matches"),
  );
}
