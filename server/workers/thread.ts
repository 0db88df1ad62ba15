/** Entry of a worker thread. Loads the transformers that come with the gateway, never an operator's plugin. */

import { builtinTransformers } from "../../plugins/builtin.ts";
import { startThread } from "./start-thread.ts";

export default startThread(builtinTransformers);
