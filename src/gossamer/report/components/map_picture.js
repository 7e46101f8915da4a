// @ts-check
/**
 * The map of a circuit as it is seen, as an SVG picture: what is folded, chosen and hidden stays so.
 *
 *     import { mapPicture } from "./map_picture.js";
 *     const text = mapPicture(element);  // the element that mountCircuitMap was given
 *
 * Boxes, words and lines are read from where the browser put them, so that picture and map are one drawing. It refers to
 * nothing outside itself: fonts by name alone, no style sheet, no script.
 */

const SVG = "http://www.w3.org/2000/svg";

/** @param {HTMLElement} host @returns {string | null} null where there is no map */
export function mapPicture(host) {
  const canvas = /** @type {HTMLElement | null} */ (host.shadowRoot?.querySelector(".canvas") ?? null);
  if (!canvas) return null;
  const pen = /** @type {CanvasRenderingContext2D} */ (Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true }));
  const [width, height] = [canvas.offsetWidth, canvas.offsetHeight];
  const picture = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "font-size": 11 });
  picture.append(element("rect", { width, height, fill: colour(pen, getComputedStyle(/** @type {Element} */ (canvas.closest(".map"))).backgroundColor) }));
  for (const line of canvas.querySelectorAll("svg path")) {
    const look = getComputedStyle(line);
    picture.append(element("path", { d: line.getAttribute("d") ?? "", fill: "none", stroke: colour(pen, look.stroke), "stroke-width": parseFloat(look.strokeWidth), "stroke-linecap": "round", opacity: look.opacity }));
  }
  for (const part of /** @type {NodeListOf<HTMLElement>} */ (canvas.querySelectorAll(".row, .column, .box"))) {
    if (part.classList.contains("box")) picture.append(boxOf(pen, part));
    picture.append(...wordsOf(pen, part));
  }
  for (const paper of canvas.querySelectorAll("svg rect")) {
    const place = Object.fromEntries(["x", "y", "width", "height"].map((name) => [name, paper.getAttribute(name) ?? 0]));
    picture.append(element("rect", { ...place, fill: colour(pen, getComputedStyle(paper).fill) }));
  }
  for (const label of canvas.querySelectorAll("svg text")) {
    const look = getComputedStyle(label);
    const halo = { stroke: colour(pen, look.stroke), "stroke-width": parseFloat(look.strokeWidth), "stroke-linejoin": "round", "paint-order": "stroke" };
    picture.append(written(label.textContent ?? "", { x: label.getAttribute("x") ?? 0, y: label.getAttribute("y") ?? 0, fill: colour(pen, look.fill), ...halo, ...fontOf(look) }));
  }
  return new XMLSerializer().serializeToString(picture) + "\n";
}

/** @param {CanvasRenderingContext2D} pen @param {HTMLElement} box */
function boxOf(pen, box) {
  const shape = box.classList.contains("error") ? hexagonOf(pen, box) : rectangleOf(pen, box);
  const title = document.createElementNS(SVG, "title");
  title.textContent = box.getAttribute("aria-label") ?? "";
  shape.append(title);
  return shape;
}

/** @param {CanvasRenderingContext2D} pen @param {HTMLElement} box */
function rectangleOf(pen, box) {
  const look = getComputedStyle(box), edge = Math.max(parseFloat(look.borderTopWidth), parseFloat(look.outlineWidth) * (look.outlineStyle === "none" ? 0 : 1));
  const line = look.outlineStyle === "none" ? look.borderTopColor : look.outlineColor;
  return element("rect", { x: box.offsetLeft + edge / 2, y: box.offsetTop + edge / 2, width: box.offsetWidth - edge, height: box.offsetHeight - edge, rx: parseFloat(look.borderTopLeftRadius) || 0,
    fill: colour(pen, look.backgroundColor), stroke: colour(pen, line), "stroke-width": edge });
}

/** An error node, whose edge and inside the style sheet draws one upon the other.
 * @param {CanvasRenderingContext2D} pen @param {HTMLElement} box */
function hexagonOf(pen, box) {
  const [outer, inner] = ["::before", "::after"].map((part) => getComputedStyle(box, part));
  const edge = parseFloat(inner.top), point = parseFloat(outer.getPropertyValue("--cut"));
  const [left, top, right, bottom] = [box.offsetLeft + edge / 2, box.offsetTop + edge / 2, box.offsetLeft + box.offsetWidth - edge / 2, box.offsetTop + box.offsetHeight - edge / 2];
  const middle = (top + bottom) / 2, corners = [[left, middle], [left + point, top], [right - point, top], [right, middle], [right - point, bottom], [left + point, bottom]];
  return element("polygon", { points: corners.map((corner) => corner.join(",")).join(" "), fill: colour(pen, inner.backgroundColor), stroke: colour(pen, outer.backgroundColor), "stroke-width": edge });
}

/** The lines of text of a part, each cut where the map cuts it.
 * @param {CanvasRenderingContext2D} pen @param {HTMLElement} part */
function wordsOf(pen, part) {
  const lines = /** @type {HTMLElement[]} */ ([...part.querySelectorAll("b, i, span")]);
  return (lines.length ? lines : [part]).map((line) => {
    const look = getComputedStyle(line), [own, here] = [part.getBoundingClientRect(), line.getBoundingClientRect()];
    const font = fontOf(look), size = parseFloat(look.fontSize);
    pen.font = `${look.fontWeight} ${look.fontSize} ${look.fontFamily}`;
    const text = cut(pen, line.textContent ?? "", here.width), middle = look.textAlign === "center";
    const [left, top] = [part.offsetLeft + here.left - own.left, part.offsetTop + here.top - own.top];
    return written(text, { x: middle ? left + here.width / 2 : left, y: top + here.height / 2 + 0.35 * size, fill: colour(pen, look.color), ...font, ...(middle ? { "text-anchor": "middle" } : {}) });
  });
}

/** @param {CanvasRenderingContext2D} pen @param {string} text @param {number} width */
function cut(pen, text, width) {
  if (pen.measureText(text).width <= width + 1) return text;
  let kept = [...text];
  while (kept.length && pen.measureText(`${kept.join("")}…`).width > width) kept = kept.slice(0, -1);
  return `${kept.join("")}…`;
}

/** @param {CSSStyleDeclaration} look */
function fontOf(look) {
  return { "font-family": look.fontFamily.replaceAll('"', "'"), "font-size": parseFloat(look.fontSize), "font-weight": look.fontWeight, "font-style": look.fontStyle };
}

/** A colour as every reader of SVG knows it, whatever the style sheet called it.
 * @param {CanvasRenderingContext2D} pen @param {string} value */
function colour(pen, value) {
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = value;
  pen.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
  return alpha === 0 ? "none" : `rgb(${red}, ${green}, ${blue})`;
}

/** @param {string} name @param {Record<string, string | number>} attributes */
function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

/** @param {string} text @param {Record<string, string | number>} attributes */
function written(text, attributes) {
  const made = element("text", attributes);
  made.textContent = text;
  return made;
}
