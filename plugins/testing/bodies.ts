/** WhatsApp webhook bodies of every kind, with people, numbers and ids that do not exist. */

type Json = Readonly<Record<string, unknown>>;

const sampleBusiness = {
  wabaId: "100000000000001",
  phoneNumberId: "100000000000002",
  phone: "15550100100",
};
const sampleUser = {
  phone: "15550100200",
  bsuid: "US.10000000000000000001",
  name: "Sam Sample",
};

const timestamp = "1772712000";
const file = { id: "1000000000000010", sha256: "q0bJ4fW3dE0Vv6p1bLxqg2m7QmUuK1n0eZkX4bqgJ0M=" };

/** Name of the sample and the body that holds it. */
export function sampleBodies(): readonly (readonly [string, Json])[] {
  return [
    ["text", received("text", { body: "Hello! Is 3 < 4 & 5 > 4? 👍" })],
    [
      "text in a reply",
      received(
        "text",
        { body: "Yes, that one." },
        { context: { from: sampleBusiness.phone, id: "wamid.SAMPLE-0" } },
      ),
    ],
    [
      "text from an advertisement",
      received(
        "text",
        { body: "Is this still available?" },
        {
          referral: {
            source_url: "https://fb.me/sample",
            source_type: "ad",
            source_id: "120000000000001",
            headline: "Spring sale",
            body: "All of it",
            media_type: "image",
            ctwa_clid: "SampleClickId",
          },
        },
      ),
    ],
    ["text in a group", received("text", { body: "Hello, all" }, { group_id: "SampleGroupId" })],
    [
      "text of a user without a number",
      ofNumber("messages", {
        contacts: [{ profile: { name: sampleUser.name, username: "sam" }, user_id: sampleUser.bsuid }],
        messages: [
          {
            from_user_id: sampleUser.bsuid,
            id: "wamid.SAMPLE-1",
            timestamp,
            type: "text",
            text: { body: "No number" },
          },
        ],
      }),
    ],
    ["image", received("image", { ...file, mime_type: "image/jpeg", caption: "The box, opened" })],
    ["video", received("video", { ...file, mime_type: "video/mp4" })],
    ["voice note", received("audio", { ...file, mime_type: "audio/ogg; codecs=opus", voice: true })],
    ["audio", received("audio", { ...file, mime_type: "audio/mpeg", voice: false })],
    [
      "document",
      received("document", {
        ...file,
        mime_type: "application/pdf",
        filename: "Rechnung Nº 7/2026.pdf",
        caption: "Our bill",
      }),
    ],
    ["sticker", received("sticker", { ...file, mime_type: "image/webp", animated: false })],
    [
      "location",
      received("location", { latitude: 52.52, longitude: 13.405, name: "Office", address: "Main St 1" }),
    ],
    ["location without a name", received("location", { latitude: 0, longitude: -0.5 })],
    [
      "contacts",
      received("contacts", [
        {
          name: { formatted_name: "Ann Sample", first_name: "Ann" },
          phones: [{ phone: "+1 555-0100-300", wa_id: "15550100300", type: "CELL" }],
          emails: [{ email: "ann@example.com", type: "WORK" }],
        },
      ]),
    ],
    ["button of a template", received("button", { payload: "confirm-7", text: "Confirm" })],
    [
      "button reply",
      received("interactive", { type: "button_reply", button_reply: { id: "yes", title: "Yes" } }),
    ],
    [
      "list reply",
      received("interactive", {
        type: "list_reply",
        list_reply: { id: "row-2", title: "Prices", description: "What it costs" },
      }),
    ],
    [
      "flow reply",
      received("interactive", {
        type: "nfm_reply",
        nfm_reply: { name: "flow", body: "Sent", response_json: '{"flow_token":"t-1","size":"M"}' },
      }),
    ],
    [
      "call permission",
      received("interactive", {
        type: "call_permission_reply",
        call_permission_reply: {
          response: "accept",
          is_permanent: false,
          expiration_timestamp: 1773316800,
          response_source: "user_action",
        },
      }),
    ],
    [
      "order",
      received("order", {
        catalog_id: "1000000000000020",
        text: "Please hurry",
        product_items: [
          { product_retailer_id: "sku-1", quantity: 2, item_price: 30, currency: "USD" },
          { product_retailer_id: "sku-2", quantity: 1, item_price: 25.5, currency: "USD" },
        ],
      }),
    ],
    ["reaction", received("reaction", { message_id: "wamid.SAMPLE-0", emoji: "👍" })],
    ["reaction taken back", received("reaction", { message_id: "wamid.SAMPLE-0" })],
    [
      "new number",
      ofNumber("messages", {
        messages: [
          message("system", {
            body: "Sam changed numbers",
            type: "user_changed_number",
            wa_id: "15550100201",
          }),
        ],
      }),
    ],
    [
      "edit",
      received("edit", {
        original_message_id: "wamid.SAMPLE-0",
        message: { type: "text", text: { body: "Hello, corrected" } },
      }),
    ],
    ["revoke", received("revoke", { original_message_id: "wamid.SAMPLE-0" })],
    [
      "opened chat",
      ofNumber("messages", {
        contacts: [contact()],
        messages: [{ from: sampleUser.phone, id: "wamid.SAMPLE-1", timestamp, type: "request_welcome" }],
      }),
    ],
    [
      "unsupported",
      ofNumber("messages", {
        contacts: [contact()],
        messages: [
          {
            from: sampleUser.phone,
            id: "wamid.SAMPLE-1",
            timestamp,
            type: "unsupported",
            errors: [
              {
                code: 131051,
                title: "Message type unknown",
                message: "Message type unknown",
                error_data: { details: "Message type is currently not supported." },
              },
            ],
          },
        ],
      }),
    ],
    ["type that is new", received("hologram", { depth: 3 })],
    ["text without a body", received("text", null)],
    [
      "status sent",
      status("sent", {
        conversation: { id: "sample-conversation", origin: { type: "utility" } },
        pricing: { billable: true, pricing_model: "PMP", category: "utility", type: "regular" },
      }),
    ],
    ["status delivered", status("delivered", {})],
    ["status read", status("read", { biz_opaque_callback_data: "order-7" })],
    [
      "status failed",
      status("failed", {
        errors: [
          {
            code: 131047,
            title: "Re-engagement message",
            message: "Re-engagement message",
            error_data: { details: "More than 24 hours have passed since the user last replied." },
          },
        ],
      }),
    ],
    ["status that is new", status("teleported", {})],
    ["sent text", sent("text", { body: "We are on it." })],
    ["sent image", sent("image", { link: "https://example.com/box.jpg", caption: "This one?" })],
    [
      "sent template",
      sent("template", { name: "order_confirmation", language: { code: "en_US" }, components: [] }),
    ],
    [
      "error",
      ofNumber("messages", {
        errors: [
          {
            code: 130429,
            title: "Rate limit hit",
            message: "Rate limit hit",
            error_data: { details: "Too many messages." },
          },
        ],
      }),
    ],
    [
      "user action",
      ofNumber("messages", {
        user_actions: [
          {
            timestamp,
            action_type: "marketing_messages_link_click",
            marketing_messages_link_click_data: { click_component: "CTA" },
          },
        ],
      }),
    ],
    [
      "account update",
      body("account_update", { event: "VERIFIED_ACCOUNT", phone_number: sampleBusiness.phone }),
    ],
    ["account review", body("account_review_update", { decision: "APPROVED" })],
    [
      "template status",
      body("message_template_status_update", {
        event: "APPROVED",
        message_template_id: 100000000000003,
        message_template_name: "order_confirmation",
        message_template_language: "en_US",
        reason: "NONE",
      }),
    ],
    [
      "phone number quality",
      body("phone_number_quality_update", {
        display_phone_number: sampleBusiness.phone,
        event: "THROUGHPUT_UPGRADE",
        current_limit: "TIER_UNLIMITED",
      }),
    ],
    [
      "preferences",
      ofNumber("user_preferences", {
        contacts: [contact()],
        user_preferences: [
          {
            wa_id: sampleUser.phone,
            detail: "User requested to stop marketing messages",
            category: "marketing_messages",
            value: "stop",
            timestamp: Number(timestamp),
          },
        ],
      }),
    ],
    [
      "call",
      ofNumber("calls", {
        contacts: [contact()],
        calls: [
          {
            id: "wacid.SAMPLE-2",
            from: sampleUser.phone,
            to: sampleBusiness.phone,
            event: "terminate",
            direction: "USER_INITIATED",
            status: "COMPLETED",
            timestamp,
            duration: 42,
          },
        ],
      }),
    ],
    ["field that is new", ofNumber("teleports", { teleports: [{ to: "the moon", distance: 384400.5 }] })],
  ];
}

function message(type: string, content: unknown, more: Json = {}): Json {
  return { from: sampleUser.phone, id: "wamid.SAMPLE-1", timestamp, type, [type]: content, ...more };
}

function received(type: string, content: unknown, more: Json = {}): Json {
  return ofNumber("messages", { contacts: [contact()], messages: [message(type, content, more)] });
}

function sent(type: string, content: unknown): Json {
  const echo = {
    from: sampleBusiness.phone,
    to: sampleUser.phone,
    id: "wamid.SAMPLE-0",
    timestamp,
    type,
    [type]: content,
  };
  return ofNumber("smb_message_echoes", { contacts: [contact()], message_echoes: [echo] });
}

function status(state: string, more: Json): Json {
  const item = { id: "wamid.SAMPLE-0", status: state, timestamp, recipient_id: sampleUser.phone, ...more };
  return ofNumber("messages", { contacts: [contact()], statuses: [item] });
}

function contact(): Json {
  return { profile: { name: sampleUser.name }, wa_id: sampleUser.phone };
}

function ofNumber(field: string, value: Json): Json {
  const metadata = {
    display_phone_number: sampleBusiness.phone,
    phone_number_id: sampleBusiness.phoneNumberId,
  };
  return body(field, { messaging_product: "whatsapp", metadata, ...value });
}

function body(field: string, value: Json): Json {
  const entry = { id: sampleBusiness.wabaId, time: Number(timestamp), changes: [{ field, value }] };
  return { object: "whatsapp_business_account", entry: [entry] };
}
