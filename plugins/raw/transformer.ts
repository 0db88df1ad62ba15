/** The item as WhatsApp sent it, nothing around it. The smallest transformer there is: the one to copy. */

import { defineTransformer, respond } from "../transformer.ts";

export default defineTransformer({
  name: "raw",
  version: "1.0.0",
  description:
    "The item as it came: a message, a status, the value of a change, or what the gateway tells of itself.",
  handles: ["message.*", "whatsapp.*", "posthorn.*"],
  pure: true,
  transform: ({ event }) => respond({ body: event.itemJson }),
});
