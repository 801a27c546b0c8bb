import { useCallback, useEffect, useRef, useState } from "react";

import { ApiError, problemOf, type Problem } from "../api/client.ts";
import type { Page } from "../api/types.ts";
import { type Polled, usePoll } from "./usePoll.ts";

export interface Paged<Item> {
  /** The newest page, which is asked for again and again. */
  readonly first: Polled<Page<Item>>;
  readonly items: readonly Item[];
  readonly hasMore: boolean;
  readonly busy: boolean;
  readonly problem: Problem | undefined;
  readonly more: () => void;
}

/**
 * A list whose newest page is polled and whose older ones are asked for one by one.
 *
 * Entries are numbered: where the newest page has moved on, what lies between it and the older ones is kept from before.
 */
export function usePaged<Item extends { readonly seq: number }>(
  key: string,
  ask: (before: number | undefined, signal: AbortSignal) => Promise<Page<Item>>,
): Paged<Item> {
  const first = usePoll(key, (signal) => ask(undefined, signal));
  const [older, setOlder] = useState<{ key: string; items: Item[]; next: number | null | undefined }>({ key, items: [], next: undefined });
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const abort = useRef(new AbortController());

  useEffect(() => {
    abort.current = new AbortController();
    setProblem(undefined);
    setBusy(false);
    return () => abort.current.abort();
  }, [key]);

  const known = older.key === key ? older : { key, items: [], next: undefined };
  const newest = first.data?.items ?? [];
  const numbers = new Set(newest.map((item) => item.seq));
  const items = [...newest, ...known.items.filter((item) => !numbers.has(item.seq))].sort((a, b) => b.seq - a.seq);
  const next = known.next === undefined ? (first.data?.next ?? null) : known.next;

  const more = useCallback(() => {
    if (next === null || busy) return;
    const { signal } = abort.current;
    setBusy(true);
    setProblem(undefined);
    ask(next, signal)
      .then((page) => {
        if (signal.aborted) return;
        // What the newest page held so far stays, or it would be lost once that page has moved on.
        setOlder({ key, items: [...items, ...page.items], next: page.next });
        setBusy(false);
      })
      .catch((error: unknown) => {
        if (signal.aborted) return;
        setProblem(error instanceof ApiError ? error.problem : problemOf(0, { detail: String(error) }));
        setBusy(false);
      });
  }, [next, busy, key, items]);

  return { first, items, hasMore: next !== null, busy, problem, more };
}
