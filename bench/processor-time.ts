/** What processes use, from /proc of Linux; NaN elsewhere. */
import { readdirSync, readFileSync } from "node:fs";

/** Microseconds of a clock tick in /proc/<pid>/stat: 100 a second on every Linux that Node.js runs on. */
const TICK_US = 10_000;

/** Processor time of a process so far, µs. */
export function processorTimeUs(pid: number): number {
  const fields = statOf(pid);
  return fields === null ? Number.NaN : (Number(fields[11]) + Number(fields[12])) * TICK_US;
}

/** Processor time of a server and its backends that are there now, µs. One that ended meanwhile is missing. */
export function serverTimeUs(postmaster: number): number {
  return [postmaster, ...childrenOf(postmaster)].reduce((sum, pid) => sum + processorTimeUs(pid), 0);
}

/** Resident memory of a process, MiB. */
export function residentMiB(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(read(`/proc/${pid}/status`) ?? "")?.[1];
  return Number(kilobytes ?? Number.NaN) / 1024;
}

function childrenOf(parent: number): number[] {
  try {
    const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    return pids.map(Number).filter((pid) => statOf(pid)?.[1] === String(parent));
  } catch {
    return [];
  }
}

/** The fields behind the name, which may hold anything. */
function statOf(pid: number): string[] | null {
  const text = read(`/proc/${pid}/stat`);
  return text === null ? null : text.slice(text.lastIndexOf(")") + 2).split(" ");
}

function read(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}
