// @ts-check
/** How components write numbers and texts. */

/** Three significant digits, a true minus; a dash for no number.
 * @param {number | null | undefined} value @param {boolean} [signed] */
export function number(value, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size > 0 && size < 0.00005) return value > 0 ? "<0.0001" : ">−0.0001";
  const digits = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.01 ? 3 : 4;
  return (signed && value > 0 ? "+" : "") + value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");
}

/** Text with nothing in it that is invisible or bends the line: controls and format characters as escapes.
 * @param {unknown} text */
export function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}]/gu, (c) => "\\u" + c.codePointAt(0)?.toString(16).padStart(4, "0"));
}
