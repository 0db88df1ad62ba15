/**
 * The test kit for transformers (`posthorn/plugin/testing`), for `node:test`, vitest or any other runner: it throws
 * AssertionErrors and needs nothing of the runner. It runs a transformer with the gateway's own code, so what passes
 * here is what is sent. Transformers themselves must not import it.
 */

export { assertSound, type CheckSettings, checkTransformer } from "./testing/check.ts";
export { type Cost, measure } from "./testing/measure.ts";
export { budgetMs, type Result, transformSample } from "./testing/run.ts";
export { type ReadSettings, readSamples, type Sample, sampleOf, samples } from "./testing/samples.ts";
export { assertSnapshot, printResults } from "./testing/snapshot.ts";
