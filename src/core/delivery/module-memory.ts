/**
 * Mebibytes of heap and Buffers, garbage included, above which the thread of a module is ended. Measured: a
 * module whose data take 40 MiB reaches 87 MiB between two collections, and one that only makes Buffers and
 * drops them 140 MiB.
 */
export function threadLimitMegabytes(memoryMegabytes: number): number {
  return 2 * memoryMegabytes + 128;
}
