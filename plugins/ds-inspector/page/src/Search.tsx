// One search for all views: marks what is found; for the graph, the hits are listed.

import { useEffect, useRef, useState } from "preact/hooks";
import type { Hit, Hits } from "./contract.ts";
import { get } from "./data.ts";
import { keys } from "./selection.ts";
import { query, recording, select, show, view } from "./state.ts";

export function Search() {
  const field = useRef<HTMLInputElement>(null);
  const [found, setFound] = useState<Hits | null>(null);
  const [at, setAt] = useState(0);
  const [focused, setFocused] = useState(false);
  const text = query.value;
  const listed = view.value === "graph";
  useEffect(() => {
    setFound(null);
    setAt(0);
    if (!text || !listed) return;
    let current = true;
    const later = setTimeout(() => {
      get<Hits>("graph/search", { r: recording.value, q: text }).then(
        (value) => current && setFound(value),
        () => undefined,
      );
    }, 120);
    return () => {
      current = false;
      clearTimeout(later);
    };
  }, [text, listed, recording.value]);

  function go(hit: Hit | undefined): void {
    if (!hit) return;
    query.value = "";
    select(keys(hit));
    show("graph");
    field.current?.blur();
  }

  return (
    <div class="search">
      <input
        id="search"
        ref={field}
        type="search"
        placeholder="Search  /"
        aria-label="Search"
        spellcheck={false}
        autocomplete="off"
        value={text}
        onInput={(event) => (query.value = event.currentTarget.value)}
        onFocus={() => setFocused(true)}
        onBlur={() => setTimeout(() => setFocused(false), 120)}
        onKeyDown={(event) => {
          if (event.key === "Enter") {
            if (listed) go(found?.hits[at]);
            else field.current?.blur();
          } else if (event.key === "ArrowDown") setAt(Math.min((found?.hits.length ?? 1) - 1, at + 1));
          else if (event.key === "ArrowUp") setAt(Math.max(0, at - 1));
          else return;
          event.preventDefault();
        }}
      />
      {listed && focused && text && found && (
        <ul class="hits" role="listbox">
          <li class="muted count">
            {found.total.toLocaleString("en")} {found.total === 1 ? "operator" : "operators"}
          </li>
          {found.hits.slice(0, 12).map((hit, index) => (
            <li
              key={index}
              role="option"
              aria-selected={index === at}
              onPointerDown={(event) => {
                event.preventDefault();
                go(hit);
              }}
            >
              <b>{hit.label}</b>
              <span class="muted">{hit.op !== hit.label && hit.op}</span>
              <span class="muted where">{hit.module}</span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
