import { describe, expect, test } from "vitest";
import { contentTypeOf, dispositionOf } from "../../server/http/media-file.ts";

describe("the content type of a file", () => {
  test.each([
    ["image/jpeg", "image/jpeg"],
    ["IMAGE/PNG", "image/png"],
    ["audio/ogg; codecs=opus", "audio/ogg; codecs=opus"],
    ['video/mp4; codecs="avc1.42E01E, mp4a.40.2"', 'video/mp4; codecs="avc1.42E01E, mp4a.40.2"'],
    ["text/html; charset=utf-7", "text/html"],
    [
      "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
      "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ],
    ["text/html\r\nSet-Cookie: a=b", "application/octet-stream"],
    ["image/png\0", "application/octet-stream"],
    ["nonsense", "application/octet-stream"],
    ["", "application/octet-stream"],
    [null, "application/octet-stream"],
  ])("%j is told as %j", (mimeType, expected) => {
    expect(contentTypeOf(mimeType)).toBe(expected);
  });
});

describe("a file is shown in place", () => {
  test.each(["image/jpeg", "image/png", "image/webp", "image/gif", "audio/ogg; codecs=opus", "video/mp4"])(
    "if it is %s",
    (contentType) => {
      expect(dispositionOf(contentType, null)).toMatch(/^inline; /);
    },
  );

  test.each([
    "text/html",
    "image/svg+xml",
    "image/svg",
    "application/xhtml+xml",
    "text/xml",
    "application/pdf",
    "application/javascript",
    "text/plain",
    "video/html",
    "audio/x+xml",
    "video",
    "x-image/png",
    "application/octet-stream",
  ])("but is offered for saving if it is %s", (contentType) => {
    expect(dispositionOf(contentType, null)).toMatch(/^attachment; /);
  });
});

test.each([
  ["IMAGE/SVG+XML; charset=utf-8", "attachment"],
  ["image/svg+xml;codecs=opus", "attachment"],
  ["Text/HTML;codecs=opus", "attachment"],
  ["image/png, text/html", "attachment"],
  ["image/png;charset=utf-8", "inline"],
  ["IMAGE/JPEG", "inline"],
])("a file that WhatsApp calls %s is shown as %s", (mimeType, kind) => {
  expect(dispositionOf(contentTypeOf(mimeType), null)).toMatch(new RegExp(`^${kind}; `));
});

describe("the name of a file", () => {
  const nameOf = (fileName: string | null, contentType = "application/pdf") =>
    dispositionOf(contentType, fileName).replace("attachment; ", "");

  test.each<[string | null, string]>([
    ["Invoice 7.pdf", 'filename="Invoice 7.pdf"'],
    ["../../etc/passwd", 'filename="passwd"'],
    ["C:\\Users\\ada\\plan.pdf", 'filename="plan.pdf"'],
    [".htaccess", 'filename="htaccess"'],
    ["...", 'filename="file.pdf"'],
    ["", 'filename="file.pdf"'],
    [null, 'filename="file.pdf"'],
    ['a"b.pdf', 'filename="a_b.pdf"'],
    ["100%.pdf", "filename=\"100_.pdf\"; filename*=UTF-8''100%25.pdf"],
    ["a\r\nSet-Cookie: b=c.pdf", 'filename="aSet-Cookie_ b=c.pdf"'],
    ["Prüfbericht.pdf", "filename=\"Pr_fbericht.pdf\"; filename*=UTF-8''Pr%C3%BCfbericht.pdf"],
    ["報告 (1)'*.pdf", "filename=\"__ (1)'_.pdf\"; filename*=UTF-8''%E5%A0%B1%E5%91%8A%20%281%29%27_.pdf"],
    ["🎺.pdf", "filename=\"_.pdf\"; filename*=UTF-8''%F0%9F%8E%BA.pdf"],
    // Shown from right to left it would read `annexe.pdf`.
    ["ann\u202efdp.exe", 'filename="annfdp.exe"'],
    ["\ud800.pdf", "filename=\"_.pdf\"; filename*=UTF-8''%EF%BF%BD.pdf"],
    [`${"n".repeat(400)}.pdf`, `filename="${"n".repeat(146)}.pdf"`],
  ])("%j becomes %j", (fileName, expected) => {
    expect(nameOf(fileName)).toBe(expected);
  });

  test("of a file that nobody named ends as its type does", () => {
    expect(dispositionOf("image/jpeg", null)).toBe('inline; filename="file.jpg"');
    expect(dispositionOf("audio/ogg; codecs=opus", null)).toBe('inline; filename="file.ogg"');
    expect(dispositionOf("application/x-unheard-of", null)).toBe('attachment; filename="file"');
  });
});
