/** What is asked and told of the files of messages. */

export interface MediaSettings {
  /** Largest file that is passed on. */
  fileBytesMax: number;
  /** How long where a file lies is remembered. */
  locationKeptMs: number;
  /** How long it is remembered that a file cannot be had. */
  failureKeptMs: number;
  /** Silence of the media host that ends a stream. */
  idleTimeoutMs: number;
}

export interface MediaAsked {
  mediaId: string;
  /** The number that got or sent the message. */
  phoneNumberId: string;
  /** Whose access token it is: what one client was told is no other's. */
  clientId: number;
  accessToken: string;
}

/** What Graph tells of a file; null for what it does not tell. */
export interface MediaFacts {
  mimeType: string | null;
  byteCount: number | null;
  /** As Graph writes it: hexadecimal or base64. */
  sha256: string | null;
}

export type MediaAnswer =
  | {
      status: 200 | 206;
      /** Of this answer's bytes; null if the host did not say. */
      byteCount: number | null;
      /** As the host wrote it, checked for its form; null for a whole file. */
      contentRange: string | null;
      /** Reading it may fail with a MediaFault. To be read to its end, or ended by the signal. */
      body: AsyncIterable<Uint8Array>;
    }
  | { status: 416; contentRange: string | null };
