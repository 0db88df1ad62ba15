/** The item as WhatsApp sent it, nothing around it. The smallest transformer there is: the one to copy. */

import { defineTransformer, respond } from "../transformer.ts";

export default defineTransformer({
  name: "raw",
  version: "1.0.0",
  description: "The WhatsApp item as it came: a message, a status or the value of a change.",
  handles: ["message.*", "whatsapp.*"],
  pure: true,
  transform: ({ event }) => respond({ body: event.itemJson }),
});
