// The graph: groups that open on a click, drawn on a canvas.

import { batch } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { BOLD, SMALL, prepare, textWidth, usePainter, useSize, useTheme } from "../canvas.ts";
import { useKeys } from "../keyboard.ts";
import { Message } from "../loading.tsx";
import { isEmpty, keys, matches } from "../selection.ts";
import { colour, group, open, recording, reveal, select, selection } from "../state.ts";
import { Crumbs, Legend } from "./bars.tsx";
import { Detail } from "./Detail.tsx";
import { around, locate } from "./locate.ts";
import { neighbour } from "./neighbour.ts";
import { worthOpening } from "./opening.ts";
import { paint } from "./paint.ts";
import { scene as build, type Item, type Scene } from "./scene.ts";
import { Viewpoint } from "./viewpoint.ts";

const measuring = document.createElement("canvas").getContext("2d")!;
const measure = (text: string, bold: boolean): number => {
  measuring.font = bold ? BOLD : SMALL;
  return textWidth(measuring, text.slice(0, 80));
};

export function GraphView() {
  const holder = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(holder);
  const [scene, setScene] = useState<Scene | null>(null);
  const latest = useRef<Scene | null>(null);
  latest.current = scene;
  const [error, setError] = useState("");
  const [hover, setHover] = useState<{ item: Item; x: number; y: number } | null>(null);
  const [cursor, setCursor] = useState("");
  const anchor = useRef<{ id: string; x: number; y: number } | null>(null);
  const wanted = useRef<"fit" | "anchor" | "centre">("fit");

  const [path, opened, which] = [group.value, open.value, recording.value];
  useEffect(() => {
    let current = true;
    build(which, path, opened, measure).then(
      (made) => {
        if (!current) return;
        setError("");
        setScene((before) => {
          if (!before || before.group !== made.group) {
            if (wanted.current !== "centre") wanted.current = "fit";
          }
          return made;
        });
      },
      (problem: Error) => current && setError(problem.message),
    );
    return () => {
      current = false;
    };
  }, [path, opened, which]);

  // A graph of few groups is opened a little, the largest group first.
  const unasked = useRef(group.value === "" && open.value.size === 0 ? 3 : 0);
  useEffect(() => {
    if (!scene || !unasked.current) return;
    unasked.current -= 1;
    void worthOpening(which, scene).then((more) => {
      if (!more || !unasked.current) return;
      wanted.current = "fit";
      open.value = new Set([...open.value, more]);
    });
  }, [scene]);

  const chosen = useMemo(() => {
    if (!scene || isEmpty(selection.value)) return new Set<Item>();
    const { op, node } = selection.value;
    // A group is only what an operator in it is within.
    const inner = op !== undefined || node !== undefined;
    return new Set(
      scene.items.filter(
        (item) => item.node && !(inner && item.path) && matches(item.keys, selection.value),
      ),
    );
  }, [scene, selection.value]);

  const most = useMemo(() => {
    const leaves = scene?.items.filter((item) => item.node && !item.open) ?? [];
    return {
      seconds: Math.max(0, ...leaves.map((item) => item.node!.seconds ?? 0)),
      bytes: Math.max(0, ...leaves.map((item) => item.node!.bytes ?? 0)),
    };
  }, [scene]);

  // Without times there is no colour for them.
  const shade = colour.value === "time" && scene && !most.seconds ? "precision" : colour.value;
  const current = scene?.items.find((item) => item.id === cursor) ?? null;
  const repaint = usePainter(() => {
    if (!canvas.current || !scene || !view.camera) return;
    const context = prepare(canvas.current, size);
    if (!context) return;
    paint(context, scene, view.camera, size, {
      colour: shade,
      most,
      chosen,
      cursor: current,
      hover: hover?.item ?? null,
      dimmed: chosen.size > 0,
    });
    canvas.current.dataset.painted = String(scene.items.length);
    const at = current && view.onScreen(current);
    canvas.current.dataset.cursor = at ? `${at.x + at.width / 2} ${at.y + at.height / 2}` : "";
  });
  const view = useRef(new Viewpoint(repaint)).current;
  view.box = size;
  useTheme(repaint);

  // Where the camera stands after the scene has changed.
  useEffect(() => {
    if (!scene || !size.width) return;
    const before = anchor.current;
    const held = before && scene.items.find((item) => item.id === before.id);
    if (wanted.current === "anchor" && held) view.hold(held, before);
    else if (wanted.current === "centre" && current) view.centre(current, 0.9, false);
    else if (wanted.current === "fit" || !view.camera) {
      view.camera = view.fitting(scene);
      const inside = [...chosen].find((item) => !item.path);
      if (inside) view.centre(inside, 0.8, false);
    }
    wanted.current = "anchor";
    anchor.current = null;
    repaint();
  }, [scene, size.width > 0]);
  useEffect(repaint, [scene, size.width, size.height, chosen, hover, cursor, shade, most]);

  function choose(item: Item): void {
    setCursor(item.id);
    if (item.node) select(keys(item.node));
  }

  function toggle(item: Item): void {
    if (!item.path) return;
    unasked.current = 0;
    const at = view.onScreen(item);
    anchor.current = at && { id: item.id, x: at.x, y: at.y };
    wanted.current = "anchor";
    const next = new Set(open.value);
    if (!next.delete(item.path)) next.add(item.path);
    open.value = next;
  }

  function enter(next: string): void {
    unasked.current = 0;
    wanted.current = "fit";
    setCursor("");
    group.value = next;
  }

  // Bring what is selected elsewhere into sight: open the groups that hold it.
  useEffect(() => {
    if (!reveal.value || isEmpty(selection.value)) return;
    let live = true;
    unasked.current = 0;
    void locate(which, selection.value).then(async (found) => {
      if (!live || !found) return;
      const item = latest.current?.items.find((one) => one.id === found.id);
      setCursor(found.id);
      if (item) {
        view.centre(item, 0.9);
        return;
      }
      const place = await around(which, found.group);
      if (!live) return;
      wanted.current = "centre";
      batch(() => {
        group.value = place.group;
        open.value = new Set([...open.value, ...place.open]);
      });
    });
    return () => {
      live = false;
    };
  }, [reveal.value]);

  useKeys((event) => {
    if (!scene) return false;
    const item = current ?? [...chosen][0] ?? null;
    switch (event.key) {
      case "ArrowUp":
      case "ArrowDown":
      case "ArrowLeft":
      case "ArrowRight": {
        const next = item ? neighbour(scene, item, event.key) : scene.items.find((one) => one.node);
        if (next) {
          choose(next);
          view.intoSight(next);
        }
        return true;
      }
      case "Enter":
        if (!item?.path) return Boolean(item);
        if (event.shiftKey) enter(item.path);
        else toggle(item);
        return true;
      case "Backspace":
        if (scene.group) enter(scene.group.slice(0, Math.max(0, parentEnd(scene.group))));
        return true;
      case "Escape":
        if (item?.open) toggle(item);
        else if (item?.parent && isEmpty(selection.value)) toggle(item.parent);
        else return false;
        return true;
      case "+":
      case "=":
        view.zoom(1.3);
        return true;
      case "-":
        view.zoom(1 / 1.3);
        return true;
      case "0":
        view.fly(view.fitting(scene));
        return true;
      default:
        return false;
    }
  });

  const drag = useRef<{ x: number; y: number; moved: boolean } | null>(null);
  useEffect(() => {
    const target = canvas.current;
    if (!target) return;
    const wheel = (event: WheelEvent): void => {
      event.preventDefault();
      const speed = event.ctrlKey ? 0.01 : 0.0015;
      if (event.shiftKey) view.shift(-(event.deltaX || event.deltaY), 0);
      else view.zoom(Math.exp(-event.deltaY * speed), event.offsetX, event.offsetY);
    };
    target.addEventListener("wheel", wheel, { passive: false });
    return () => target.removeEventListener("wheel", wheel);
  }, [scene === null]);

  return (
    <div class="view graph">
      <div class="toolbar">
        <Crumbs path={scene?.group ?? path} go={enter} />
        <span class="spring" />
        {scene && scene.truncated > 0 && (
          <span class="note">{scene.truncated.toLocaleString("en")} nodes are not shown</span>
        )}
        <Legend most={most} shown={shade} />
      </div>
      <div class="stage" ref={holder}>
        {error && <Message>{error}</Message>}
        {!error && !scene && <Message>…</Message>}
        {!error && scene && scene.items.length === 0 && (
          <Message>There is no graph in this recording.</Message>
        )}
        <canvas
          ref={canvas}
          class="graph-canvas"
          tabIndex={0}
          role="img"
          aria-label="Graph of the model; arrow keys move, Enter opens a group"
          onPointerDown={(event) => {
            view.stop();
            drag.current = { x: event.clientX, y: event.clientY, moved: false };
            event.currentTarget.setPointerCapture(event.pointerId);
          }}
          onPointerMove={(event) => {
            const from = drag.current;
            if (from) {
              const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
              if (!from.moved && Math.hypot(dx, dy) < 4) return;
              drag.current = { x: event.clientX, y: event.clientY, moved: true };
              view.shift(dx, dy);
              setHover(null);
              return;
            }
            const item = scene && view.under(scene, event.offsetX, event.offsetY)?.item;
            setHover(item?.node ? { item, x: event.offsetX, y: event.offsetY } : null);
          }}
          onPointerUp={(event) => {
            const moved = drag.current?.moved;
            drag.current = null;
            if (moved) return;
            const at = scene && view.under(scene, event.offsetX, event.offsetY);
            if (!at) {
              setCursor("");
              select({});
              return;
            }
            choose(at.item);
            // On the arrow.
            if (at.item.path && at.x < 26 && at.y < 30) toggle(at.item);
          }}
          onPointerLeave={() => setHover(null)}
          onDblClick={(event) => {
            const item = scene && view.under(scene, event.offsetX, event.offsetY)?.item;
            if (item?.path) toggle(item);
          }}
        />
        {hover && <Detail node={hover.item.node!} x={hover.x} y={hover.y} box={size} />}
      </div>
    </div>
  );
}

function parentEnd(path: string): number {
  return Math.max(path.lastIndexOf("."), path.lastIndexOf("#"));
}
