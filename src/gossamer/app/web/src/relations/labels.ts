/** Names of nodes that never lie over one another: each beside its node where there is room, else left out. */

export interface Wanted {
  key: string;
  text: string;
  /** Middle of the node in pixels, and its radius. */
  x: number;
  y: number;
  radius: number;
  /** The higher, the earlier it gets its place. */
  rank: number;
}

export interface Placed {
  key: string;
  text: string;
  left: number;
  top: number;
  width: number;
  height: number;
}

const GAP = 3;

/** Places for as many names as have room inside a width and height, in the order of their ranks. */
export function placed(wanted: Wanted[], widthOf: (text: string) => number, height: number, room: { width: number; height: number }): Placed[] {
  const found: Placed[] = [];
  for (const one of [...wanted].sort((a, b) => b.rank - a.rank)) {
    const width = widthOf(one.text), beside = one.radius + GAP;
    // To the right, the left, above and below.
    const corners: [number, number][] = [[one.x + beside, one.y - height / 2], [one.x - beside - width, one.y - height / 2], [one.x - width / 2, one.y - beside - height], [one.x - width / 2, one.y + beside]];
    const free = corners.map(([left, top]) => ({ key: one.key, text: one.text, left, top, width, height })).filter((box) => (
      box.left >= 0 && box.top >= 0 && box.left + width <= room.width && box.top + height <= room.height && !found.some((other) => over(box, other))
    ));
    // Beside the discs of others rather than on one.
    const best = free.find((box) => !wanted.some((node) => node !== one && on(box, node))) ?? free[0];
    if (best) found.push(best);
  }
  return found;
}

/** Whether a name touches a node's disc. */
function on(box: Placed, node: Wanted): boolean {
  const [x, y] = [Math.min(Math.max(node.x, box.left), box.left + box.width), Math.min(Math.max(node.y, box.top), box.top + box.height)];
  return (x - node.x) ** 2 + (y - node.y) ** 2 < node.radius ** 2;
}

function over(a: Placed, b: Placed): boolean {
  return a.left < b.left + b.width + GAP && b.left < a.left + a.width + GAP && a.top < b.top + b.height + 1 && b.top < a.top + a.height + 1;
}

/** The name that a point in pixels lies on. */
export function nameAt(found: Placed[], x: number, y: number): Placed | undefined {
  return found.find((one) => x >= one.left && x <= one.left + one.width && y >= one.top && y <= one.top + one.height);
}
