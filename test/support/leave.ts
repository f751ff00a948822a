/**
 * Loaded before each test file: a file whose tests are over, and that left something open, is ended after
 * a while and does not hold up the run. (`forceExit` of node:test ends it at once, and loses results that
 * are not written yet.)
 */
import { after } from "node:test";

const GRACE_MS = 10_000;

after(() => {
  setTimeout(() => process.exit(), GRACE_MS).unref();
});
