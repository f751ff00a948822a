/** How far a build is, on stderr: a line that changes on a terminal, otherwise a line every few seconds. */
import type { Progress } from "../postgres/apply.ts";

/** Milliseconds from the first table on before progress is told. */
const QUIET_MS = 1000;
/** Milliseconds between two lines where each stays. */
const LINE_MS = 5000;
const TERMINAL_MS = 100;

export interface ProgressLine {
  update(progress: Progress): void;
  /** Takes the changing line away. */
  end(): void;
}

/** @param nowMs monotonic time */
export function progressLine(
  stream: { readonly isTTY?: boolean | undefined; write(text: string): unknown },
  nowMs: () => number = () => performance.now(),
): ProgressLine {
  const terminal = stream.isTTY === true;
  let nextMs: number | null = null;
  let shown = false;
  return {
    update({ done, total }) {
      nextMs ??= nowMs() + QUIET_MS;
      if (nowMs() < nextMs || done === total) return; // the end is told by who built
      nextMs = nowMs() + (terminal ? TERMINAL_MS : LINE_MS);
      const text = `${done.toLocaleString("en-US")} of ${total.toLocaleString("en-US")} tables`;
      stream.write(terminal ? `\r\u001b[K${text}` : `${text}\n`);
      shown = true;
    },
    end() {
      if (terminal && shown) stream.write("\r\u001b[K");
    },
  };
}
