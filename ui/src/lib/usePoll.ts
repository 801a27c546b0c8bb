import { useCallback, useEffect, useRef, useState } from "react";

import { ApiError, problemOf, type Problem } from "../api/client.ts";
import { isStale, nextDelay } from "./polling.ts";

export interface Polled<Answer> {
  /** The last good answer; it stays while later questions fail. */
  readonly data: Answer | undefined;
  readonly problem: Problem | undefined;
  /** When `data` came, as `Date.now()`. */
  readonly answeredAt: number;
  readonly stale: boolean;
  readonly refresh: () => void;
}

interface State<Answer> {
  key: string;
  data: Answer | undefined;
  problem: Problem | undefined;
  answeredAt: number;
  failures: number;
}

/**
 * Ask now, and again while the page is looked at: see {@link nextDelay}.
 *
 * @param key what is asked for; an answer to another key is not shown
 * @param ask must depend on nothing that `key` does not name
 * @param isMoving whether the answer may change within seconds
 * @param keep show the answer to the key before until there is one to this: a list that is typed at must not flicker
 */
export function usePoll<Answer>(
  key: string,
  ask: (signal: AbortSignal) => Promise<Answer>,
  isMoving: (answer: Answer) => boolean = () => false,
  keep = false,
): Polled<Answer> {
  const empty: State<Answer> = { key, data: undefined, problem: undefined, answeredAt: 0, failures: 0 };
  const [state, setState] = useState(empty);
  const [now, setNow] = useState(() => Date.now());
  const latest = useRef({ ask, isMoving });
  latest.current = { ask, isMoving };
  const wake = useRef<() => void>(() => undefined);

  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let failures = 0;
    let answer: Answer | undefined;
    let asking = false;
    let again = false;

    const schedule = () => {
      const moving = answer !== undefined && latest.current.isMoving(answer);
      timer = setTimeout(() => void question(), nextDelay({ moving, failures }));
    };
    const question = async () => {
      clearTimeout(timer);
      if (asking) {
        // What is asked for now must not be answered by a question of before.
        again = true;
        return;
      }
      if (document.hidden) return; // whoever comes back to the page wakes it
      asking = true;
      try {
        const found = await latest.current.ask(abort.signal);
        failures = 0;
        answer = found;
        if (!abort.signal.aborted) {
          setState({ key, data: found, problem: undefined, answeredAt: Date.now(), failures });
        }
      } catch (error) {
        failures += 1;
        const problem = error instanceof ApiError ? error.problem : problemOf(0, { detail: String(error) });
        if (!abort.signal.aborted) {
          setState((before) => ({ ...(before.key === key || keep ? { ...before, key } : { ...before, key, data: undefined }), problem, failures }));
        }
      } finally {
        asking = false;
      }
      if (abort.signal.aborted) return;
      if (again) {
        again = false;
        void question();
      } else schedule();
    };

    wake.current = () => void question();
    const onVisible = () => {
      if (!document.hidden) void question();
    };
    document.addEventListener("visibilitychange", onVisible);
    globalThis.addEventListener("online", onVisible);
    const clock = setInterval(() => setNow(Date.now()), 5_000);
    void question();
    return () => {
      abort.abort();
      clearTimeout(timer);
      clearInterval(clock);
      document.removeEventListener("visibilitychange", onVisible);
      globalThis.removeEventListener("online", onVisible);
    };
  }, [key]);

  const shown = state.key === key || keep ? state : empty;
  const moving = shown.data !== undefined && isMoving(shown.data);
  const refresh = useCallback(() => wake.current(), []);
  return {
    data: shown.data,
    problem: shown.problem,
    answeredAt: shown.answeredAt,
    stale: shown.data !== undefined && isStale(shown.answeredAt, now, moving),
    refresh,
  };
}
