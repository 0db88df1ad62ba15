/** What all charts are put together from. */

/** Where a chart lies, in pixels. */
export interface Frame {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** @param attributes  further ones, as they stand in SVG */
export function text(x: number, y: number, content: string, attributes = ""): string {
  return `<text x="${x}" y="${y}" ${attributes}>${escapeText(content)}</text>`;
}

export function escapeText(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
