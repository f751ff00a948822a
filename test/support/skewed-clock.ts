/** @returns NODE_OPTIONS of a process whose clock is so many hours ahead; its monotonic clock is as it was */
export function skewedClock(hours: number): string {
  const code = `const Real = Date, ahead = ${hours} * 3_600_000;
    globalThis.Date = class extends Real {
      constructor(...parts) { if (parts.length === 0) super(Real.now() + ahead); else super(...parts); }
      static now() { return Real.now() + ahead; }
    };`;
  return `--import=data:text/javascript,${encodeURIComponent(code)}`;
}
