/** A time as RFC 3339 in UTC, as SQL: whatever the session's settings, and without rounding. @param time an expression */
export function rfc3339(time: string, digits: "seconds" | "microseconds" = "seconds"): string {
  const fraction = digits === "microseconds" ? ".US" : "";
  return `to_char((${time}) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS${fraction}"Z"')`;
}
