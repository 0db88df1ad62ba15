import { contractVersion, contractVersionOf, type Transformer } from "../../plugins/transformer.ts";

/**
 * The transformer that a plugin's module exports.
 *
 * @throws TypeError that says what the default export should be
 */
export function transformerOf(exported: unknown): Transformer {
  // What compilers make of `export default` for CommonJS.
  const inner = (exported as { default?: unknown } | null | undefined)?.default;
  const found = contractVersionOf(exported) === null && inner !== undefined ? inner : exported;
  const version = contractVersionOf(found);
  if (version === contractVersion) return found as Transformer;
  throw new TypeError(
    version === null
      ? "the default export is not made by defineTransformer: write `export default defineTransformer({ … })`, with defineTransformer from posthorn/plugin"
      : `it is made for version ${version} of the plugin contract, and this gateway has version ${contractVersion}: ` +
          (version > contractVersion ? "update the gateway" : "update the plugin"),
  );
}
