/** What runs: the version of the package, from package.json, and the commit that it was built from. */
import manifest from "../package.json" with { type: "json" };

/** Put in its place by scripts/build.ts. */
declare const BUILD_REVISION: string | undefined;

export const VERSION: string = manifest.version;
/** Of a checkout it is not known. */
export const REVISION: string = typeof BUILD_REVISION === "string" ? BUILD_REVISION : "unknown";
