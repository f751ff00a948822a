import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { Manifest } from "./crd-cases.ts";

const SAMPLES = join(import.meta.dirname, "../../deploy/samples");

/** Every PgEventSource of deploy/samples. */
export function readSamples(): Manifest[] {
  const files = readdirSync(SAMPLES).filter((file) => file.endsWith(".yaml"));
  const documents = files.flatMap((file) => parseAllDocuments(readFileSync(join(SAMPLES, file), "utf8")));
  const manifests = documents.map((document) => document.toJS() as Manifest);
  return manifests.filter((manifest) => manifest.kind === "PgEventSource");
}
