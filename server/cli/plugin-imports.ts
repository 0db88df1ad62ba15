/**
 * Lets plugins and their tests import `posthorn/plugin` and `posthorn/plugin/testing` wherever they lie. To be loaded
 * before them, such as by `node --import`.
 */

import { registerHooks } from "node:module";

const ours: ReadonlyMap<string, string> = new Map([
  ["posthorn/plugin", new URL("../../plugins/transformer.ts", import.meta.url).href],
  ["posthorn/plugin/testing", new URL("../../plugins/testing.ts", import.meta.url).href],
]);

registerHooks({
  resolve(specifier, context, next) {
    const url = ours.get(specifier);
    return url === undefined ? next(specifier, context) : { url, shortCircuit: true };
  },
});
