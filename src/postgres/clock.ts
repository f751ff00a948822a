import type { Pool } from "pg";

/**
 * Seconds that this machine's clock is ahead of the database's, negative when it is behind; 0 within what
 * the way there and back took. @throws the driver's error
 */
export async function clockSkewSeconds(pool: Pool): Promise<number> {
  const sentMs = Date.now();
  const { rows } = await pool.query<{ ms: number }>(
    "select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms",
  );
  const receivedMs = Date.now();
  const theirsMs = rows[0]?.ms ?? sentMs;
  if (sentMs > theirsMs) return (sentMs - theirsMs) / 1000;
  return Math.min(0, receivedMs - theirsMs) / 1000;
}
