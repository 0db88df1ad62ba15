import { describe, expect, test } from "vitest";
import { escapeText, shorten } from "../../plugins/slack/mrkdwn.ts";
import slack from "../../plugins/slack/transformer.ts";
import { sampleOf, transformSample } from "../../plugins/testing.ts";
import { aConversation, aTransformerInput, aUser } from "./builders.ts";

interface SlackMessage {
  text: string;
  channel?: string;
  username?: string;
  icon_emoji?: string;
  blocks?: { type: string; text?: { text: string }; elements?: { text: string }[] }[];
}

const mrkdwn = (text: string) => ({ type: "mrkdwn", text, verbatim: true });

test("the payload of a text message", () => {
  expect(JSON.stringify(told({ item: aText("Is 3 < 4?") }))).toBe(
    JSON.stringify({
      text: "*John Doe* wrote: Is 3 &lt; 4?",
      blocks: [
        { type: "section", text: mrkdwn("*John Doe* wrote") },
        { type: "section", text: mrkdwn("Is 3 &lt; 4?") },
        { type: "context", elements: [mrkdwn("+0987654321 · partner-123")] },
      ],
    }),
  );
});

describe("what somebody on WhatsApp writes", () => {
  test("calls nobody on Slack: every &, < and > is escaped wherever it stands", () => {
    const attack = "<!channel> <https://evil.example|bank> &lt;";
    const message = told({
      item: aText(attack),
      event: { user: aUser({ profileName: "<@U1>" }), clientRef: "<#C1>" },
      conversation: aConversation({ name: "<@U1>" }),
    });
    const texts = JSON.stringify(message);
    expect(texts).not.toMatch(/<|>/);
    expect(texts).toContain("&lt;!channel&gt; &lt;https://evil.example|bank&gt; &amp;lt;");
    expect(texts).toContain("*&lt;@U1&gt;*");
    expect(texts).toContain("&lt;#C1&gt;");
  });

  test("fills a template as text, and placeholders in it stay what they are", () => {
    const message = told({
      item: aText("<!here> {phone}"),
      options: { template: "<!subteam^S1> {who}: {content} {nothing} {toString}" },
    });
    expect(message).toEqual({
      text: "<!subteam^S1> John Doe: &lt;!here&gt; {phone} {nothing} {toString}",
    });
  });

  test("is cut to what Slack takes, and not in the middle of an entity", () => {
    const message = told({ item: aText("<".repeat(5_000)) });
    expect(message.text.length).toBeLessThanOrEqual(4_000);
    const section = message.blocks?.[1]?.text?.text ?? "";
    expect(section.length).toBeLessThanOrEqual(3_000);
    expect(section).toMatch(/^(&lt;)+…$/);
  });
});

describe("options", () => {
  test("channel, username and emoji are passed on", () => {
    const look = { channel: "#support", username: "WhatsApp", icon_emoji: ":phone:" };
    expect(told({ options: look })).toMatchObject(look);
  });

  test.each([
    [
      "status failed",
      {},
      "*Sam Sample* did not get a message: More than 24 hours have passed since the user last replied.",
    ],
    ["status delivered", {}, null],
    ["status delivered", { statuses: "all" }, "*Sam Sample* got a message"],
    ["status failed", { statuses: "none" }, null],
  ])("%s with %j", async (name, options, text) => {
    expect(await textOfSample(name, options)).toBe(text);
  });
});

test.each([
  ["reaction", "*Sam Sample* reacted with 👍"],
  ["reaction taken back", "*Sam Sample* took a reaction back"],
  ["image", "*Sam Sample* sent an image: The box, opened"],
  ["location", "*Sam Sample* sent a location: Office, Main St 1 (52.52, 13.405)"],
  ["list reply", "*Sam Sample* answered: Prices"],
  ["edit", "*Sam Sample* changed a message: Hello, corrected"],
  ["revoke", "*Sam Sample* took a message back"],
  ["type that is new", "*Sam Sample* sent a message"],
  ["sent text", "*Sam Sample* was answered: the business wrote: We are on it."],
])("%s is told as %j", async (name, text) => {
  expect(await textOfSample(name)).toBe(text);
});

test("a file is linked, in a way that its address cannot break", () => {
  const message = told({
    item: { id: "wamid.x", type: "image", image: { id: "1" } },
    mediaUrl: "https://gateway.example.com/media/a?b=1&c=2",
  });
  expect(message.blocks?.at(-1)?.elements?.[0]?.text).toBe(
    "+0987654321 · partner-123 · <https://gateway.example.com/media/a?b=1&amp;c=2|open file>",
  );
});

test("a user without name or number is named by the business-scoped id", () => {
  const user = aUser({ phone: null, waId: null, profileName: null, bsuid: "US.1" });
  expect(told({ event: { user }, conversation: null }).text).toBe("*US.1* wrote: Hello!");
});

test("shorten keeps what fits, and cuts no entity, link or character in half", () => {
  expect(shorten("abc", 3)).toBe("abc");
  expect(shorten("abcd", 3)).toBe("ab…");
  expect(shorten("ab&amp;cd", 6)).toBe("ab…");
  expect(shorten("ab&amp;cd", 8)).toBe("ab&amp;…");
  expect(shorten("a<https://x|y>b", 10)).toBe("a…");
  expect(shorten("a👍bc", 3)).toBe("a…");
});

test("escapeText makes text that can be sent of any", () => {
  expect(escapeText("\u0000\ud83d<&>")).toBe("\uFFFD\uFFFD&lt;&amp;&gt;");
});

function aText(body: string) {
  return { id: "wamid.x", type: "text", text: { body }, timestamp: "1772712000" };
}

function told(overrides: Parameters<typeof aTransformerInput>[0] = {}): SlackMessage {
  return JSON.parse(JSON.stringify(slack.transform(aTransformerInput(overrides))));
}

async function textOfSample(name: string, options: Record<string, unknown> = {}): Promise<string | null> {
  const result = await transformSample(slack, sampleOf(name), options);
  return result.kind === "made" ? JSON.parse(result.text).text : null;
}
