// Answers that come later.

import { useEffect, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { get, type Query } from "./data.ts";

export interface Answer<T> {
  value: T | null;
  error: string;
  /** The value is that of an earlier question. */
  stale: boolean;
}

/** An answer of the server; the last one stays until the next has come. */
export function useAnswer<T>(name: string | null, query: Query = {}): Answer<T> {
  const asked = name === null ? "" : `${name} ${JSON.stringify(query)}`;
  const [state, setState] = useState<{ asked: string; value: T | null; error: string }>({
    asked: "",
    value: null,
    error: "",
  });
  useEffect(() => {
    if (name === null) return;
    let current = true;
    get<T>(name, query).then(
      (value) => current && setState({ asked, value, error: "" }),
      (error: Error) => current && setState({ asked, value: null, error: error.message }),
    );
    return () => {
      current = false;
    };
  }, [asked]);
  return { value: state.value, error: state.error, stale: state.asked !== asked };
}

export function Message({ children }: { children: ComponentChildren }) {
  return <div class="message">{children}</div>;
}

/** What stands in a view's place while there is nothing to show. */
export function Waiting({ answer }: { answer: Answer<unknown> }) {
  if (answer.error) return <Message>{answer.error}</Message>;
  return <Message>…</Message>;
}
