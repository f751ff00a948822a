/** What the spec keeps of the circumstances of a change as a JSON expression, for the functions in the database. */
import type { CaptureSpec } from "../api/capture.ts";
import { literal } from "./quote.ts";

export type ContextSpec = CaptureSpec["context"];

/**
 * Beside the role and the name of the application, which the outbox has columns for; `null::json` for nothing.
 * A query, so that a statement evaluates it once, not for each row.
 * @param more further pairs of names and values, as SQL
 */
export function contextExpression({ query, settings, traceparent }: ContextSpec, ...more: string[]): string {
  const pairs = [
    ...(query ? ["'query', current_query()"] : []),
    ...(settings === undefined ? [] : [`'settings', ${settingsExpression(settings)}`]),
    ...(traceparent === undefined ? [] : [`'traceparent', ${settingValue(traceparent)}`]),
    ...more,
  ];
  return pairs.length === 0 ? "null::json" : `(select json_build_object(${pairs.join(", ")}))`;
}

/** Queries that fail when the role may not read a setting: better in a build than in a write. */
export function settingChecks({ settings = [], traceparent }: ContextSpec): string[] {
  const names = traceparent === undefined ? settings : [...settings, traceparent];
  return names.map((name) => `select ${settingValue(name)}`);
}

function settingsExpression(settings: readonly string[]): string {
  return `json_build_object(${settings.map((name) => `${literal(name)}, ${settingValue(name)}`).join(", ")})`;
}

/** Null where it is not set; a setting that was set in an earlier transaction only is empty from then on. */
function settingValue(setting: string): string {
  return `nullif(current_setting(${literal(setting)}, true), '')`;
}
