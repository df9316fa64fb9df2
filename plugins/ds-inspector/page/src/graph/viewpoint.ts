// From where the scene is looked at, and moving there.

import type { Box } from "../canvas.ts";
import type { Camera } from "./paint.ts";
import type { Item, Scene } from "./scene.ts";

const MOVE = 140; // milliseconds
const MARGIN = 24;
const CLOSEST = 3;
const FARTHEST = 0.02;

export class Viewpoint {
  camera: Camera | null = null;
  box: Box = { width: 0, height: 0 };
  private moving = 0;

  constructor(private readonly repaint: () => void) {}

  stop(): void {
    cancelAnimationFrame(this.moving);
  }

  fly(to: Camera, animated = true): void {
    this.stop();
    const from = this.camera && { ...this.camera };
    if (!from || !animated || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.camera = to;
      this.repaint();
      return;
    }
    const begin = performance.now();
    const frame = (now: number): void => {
      const part = Math.min(1, (now - begin) / MOVE);
      const eased = 1 - (1 - part) ** 3;
      const mixed = (one: number, other: number): number => one + (other - one) * eased;
      this.camera = {
        x: mixed(from.x, to.x),
        y: mixed(from.y, to.y),
        scale: mixed(from.scale, to.scale),
      };
      this.repaint();
      if (part < 1) this.moving = requestAnimationFrame(frame);
    };
    this.moving = requestAnimationFrame(frame);
  }

  centre(item: Item, least: number, animated = true): void {
    const scale = Math.max(least, this.camera?.scale ?? 0);
    const height = item.open ? 60 : item.height;
    const x = this.box.width / 2 - (item.x + item.width / 2) * scale;
    this.fly({ x, y: this.box.height / 2 - (item.y + height / 2) * scale, scale }, animated);
  }

  /** Move only if an item is not to be seen. */
  intoSight(item: Item): void {
    const at = this.onScreen(item);
    if (!at) return;
    const height = item.open ? 40 : at.height;
    const inside =
      at.x >= 0 &&
      at.y >= 0 &&
      at.x + at.width <= this.box.width &&
      at.y + height <= this.box.height;
    if (!inside) this.centre(item, 0.7);
  }

  onScreen(item: Item): ({ x: number; y: number } & Box) | null {
    if (!this.camera) return null;
    const { x, y, scale } = this.camera;
    return {
      x: item.x * scale + x,
      y: item.y * scale + y,
      width: item.width * scale,
      height: item.height * scale,
    };
  }

  /** Stand so that an item is where it was. */
  hold(item: Item, at: { x: number; y: number }): void {
    const now = this.onScreen(item);
    if (now) this.shift(at.x - now.x, at.y - now.y);
  }

  shift(dx: number, dy: number): void {
    if (!this.camera) return;
    this.camera.x += dx;
    this.camera.y += dy;
    this.repaint();
  }

  zoom(factor: number, x = this.box.width / 2, y = this.box.height / 2): void {
    const view = this.camera;
    if (!view) return;
    const scale = Math.min(CLOSEST, Math.max(FARTHEST, view.scale * factor));
    const part = scale / view.scale;
    this.camera = { x: x - (x - view.x) * part, y: y - (y - view.y) * part, scale };
    this.repaint();
  }

  /** The whole scene, unless that would make it illegible: then its upper end. */
  fitting(scene: Scene): Camera {
    const { width, height } = this.box;
    const whole = Math.min(
      (width - 2 * MARGIN) / scene.width,
      (height - 2 * MARGIN) / scene.height,
    );
    const scale = Math.min(1.1, Math.max(0.8, whole));
    const tall = scene.height * scale > height - 2 * MARGIN;
    return {
      x: (width - scene.width * scale) / 2,
      y: tall ? MARGIN : (height - scene.height * scale) / 2,
      scale,
    };
  }

  /** The innermost item at a point of the screen, and where in it. */
  under(scene: Scene, screenX: number, screenY: number): { item: Item; x: number; y: number } | null {
    if (!this.camera) return null;
    const x = (screenX - this.camera.x) / this.camera.scale;
    const y = (screenY - this.camera.y) / this.camera.scale;
    let found: Item | null = null;
    for (const item of scene.items) {
      const inside = x >= item.x && x <= item.x + item.width && y >= item.y && y <= item.y + item.height;
      if (inside && (!found || item.depth >= found.depth)) found = item;
    }
    return found && { item: found, x: x - found.x, y: y - found.y };
  }
}
