import type { TransformerInput } from "./input.ts";
import type { MediaFile } from "./items.ts";
import { readItem } from "./read-item.ts";

/** The file of a message: what WhatsApp says of it, and where to fetch it. */
export interface Media {
  readonly kind: "image" | "audio" | "video" | "document" | "sticker";
  /** Link to the bytes on the gateway, good for 7 days; null where the gateway has none to give. */
  readonly url: string | null;
  /** Such as `image/jpeg` or `audio/ogg; codecs=opus`; null if WhatsApp says none. */
  readonly mimeType: string | null;
  /** As the sender wrote it: any characters, no path to trust; null for most files. */
  readonly fileName: string | null;
  /** `""` if there is none. */
  readonly caption: string;
  /** Base64 of the file's SHA-256; null if WhatsApp says none. */
  readonly sha256: string | null;
  /** True for a voice note. */
  readonly isVoice: boolean;
}

/** The file of the event's message; null when it has none. */
export function mediaOf({ event, mediaUrl }: TransformerInput): Media | null {
  const item = readItem(event);
  switch (item.type) {
    case "image":
      return describe("image", item.image, mediaUrl);
    case "audio":
      return describe("audio", item.audio, mediaUrl);
    case "video":
      return describe("video", item.video, mediaUrl);
    case "document":
      return describe("document", item.document, mediaUrl);
    case "sticker":
      return describe("sticker", item.sticker, mediaUrl);
    default:
      return null;
  }
}

function describe(kind: Media["kind"], file: MediaFile, url: string | null): Media {
  return {
    kind,
    url,
    mimeType: file.mime_type ?? null,
    fileName: file.filename ?? null,
    caption: file.caption ?? "",
    sha256: file.sha256 ?? null,
    isVoice: file.voice ?? false,
  };
}
