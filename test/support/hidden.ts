/** Looks for secret values in everything that the operator writes. */
import assert from "node:assert/strict";
import type { Scene } from "./operator-suite.ts";

/** None of the values is in anything that the operator wrote. */
export async function assertHidden(scene: Scene, values: readonly string[]): Promise<void> {
  const written = JSON.stringify([
    await scene.get(),
    await scene.deployment(),
    await scene.events(),
    scene.operator.stderr,
    scene.operator.stdout,
  ]);
  for (const value of values) {
    assert.ok(value.length > 3);
    assert.ok(!written.includes(value), "a secret value shows");
    assert.ok(!written.includes(Buffer.from(value).toString("base64")), "an encoded secret value shows");
  }
}
