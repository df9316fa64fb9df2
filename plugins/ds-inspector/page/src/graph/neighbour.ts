// Which node an arrow key leads to.

import type { Item, Scene } from "./scene.ts";

export function neighbour(scene: Scene, item: Item, key: string): Item | null {
  const vertical = key === "ArrowUp" || key === "ArrowDown";
  const forward = key === "ArrowDown" || key === "ArrowRight";
  if (vertical) {
    // Along edges first: that is how one reads a graph.
    if (forward && item.open) {
      const inner = scene.items.filter((one) => one.parent === item && one.node);
      return nearest(inner, (one) => one.y);
    }
    const ends = scene.lines
      .filter((line) => (forward ? line.from : line.to) === item)
      .map((line) => (forward ? line.to : line.from))
      .filter((one) => one.node);
    if (ends.length) return nearest(ends, (one) => Math.abs(middle(one) - middle(item)));
    if (!forward && item.parent) return item.parent;
  }
  const siblings = scene.items.filter(
    (one) => one.node && one !== item && one.parent === item.parent,
  );
  const ahead = siblings.filter((one) => {
    const [dx, dy] = [middle(one) - middle(item), one.y - item.y];
    const along = vertical ? dy : dx;
    return forward ? along > 1 : along < -1;
  });
  return nearest(ahead, (one) => {
    const [dx, dy] = [Math.abs(middle(one) - middle(item)), Math.abs(one.y - item.y)];
    return vertical ? dy + 2 * dx : dx + 4 * dy;
  });
}

function middle(item: Item): number {
  return item.x + item.width / 2;
}

function nearest(items: Item[], distance: (item: Item) => number): Item | null {
  let best: Item | null = null;
  let least = Infinity;
  for (const one of items) {
    const far = distance(one);
    if (far < least) [best, least] = [one, far];
  }
  return best;
}
