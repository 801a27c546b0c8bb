/** A dialog inside the page that asks for a reason before anything is done; `confirm()` is shut in Airflow's frames. */

import { Button } from "@chakra-ui/react";
import { type FormEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";

import { ApiError, problemOf, type Problem } from "../api/client.ts";
import { Notice } from "./basics.tsx";
import { ProblemText } from "./states.tsx";

export const MIN_REASON = 3;
export const MAX_REASON = 500;

export function reasonFault(reason: string): string | undefined {
  const length = reason.trim().length;
  if (length < MIN_REASON) return `Say why, in ${MIN_REASON} characters or more: it is kept in the ledger.`;
  if (length > MAX_REASON) return `${length} characters; at most ${MAX_REASON} are kept.`;
  return undefined;
}

interface Props<Answer> {
  readonly open: boolean;
  readonly title: string;
  readonly verb: string;
  readonly tone?: "red" | "blue";
  readonly children: ReactNode;
  /** @param key one for each decision: a second click after a lost answer repeats it and decides nothing new */
  readonly act: (reason: string, key: string) => Promise<Answer>;
  readonly done: (answer: Answer) => ReactNode;
  readonly close: () => void;
}

export function ReasonDialog<Answer>({ open, title, verb, tone = "blue", children, act, done, close }: Props<Answer>) {
  const dialog = useRef<HTMLDialogElement>(null);
  const key = useRef("");
  const heading = useId();
  const hint = useId();
  const [reason, setReason] = useState("");
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const [answer, setAnswer] = useState<{ value: Answer }>();

  useEffect(() => {
    const box = dialog.current;
    if (!box) return;
    if (open && !box.open) {
      key.current = newKey();
      setReason("");
      setTried(false);
      setProblem(undefined);
      setAnswer(undefined);
      box.showModal();
    } else if (!open && box.open) box.close();
  }, [open]);

  const fault = reasonFault(reason);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (fault || busy) return;
    setBusy(true);
    setProblem(undefined);
    try {
      setAnswer({ value: await act(reason.trim(), key.current) });
    } catch (error) {
      setProblem(error instanceof ApiError ? error.problem : problemOf(0, { detail: String(error) }));
    } finally {
      setBusy(false);
    }
  };

  return (
    <dialog
      ref={dialog}
      aria-labelledby={heading}
      onClose={close}
      onCancel={(event) => {
        if (busy) event.preventDefault();
      }}
    >
      {open ? (
        <form className="stack" onSubmit={(event) => void submit(event)} noValidate>
          <h2 id={heading}>{title}</h2>
          {answer ? (
            <div role="status" className="stack">
              {done(answer.value)}
            </div>
          ) : (
            <>
              {children}
              <label>
                Reason
                <textarea
                  autoFocus
                  required
                  maxLength={MAX_REASON + 100}
                  value={reason}
                  aria-invalid={tried && fault !== undefined}
                  aria-describedby={hint}
                  onChange={(event) => setReason(event.target.value)}
                />
              </label>
              <p id={hint} className="muted" role={tried && fault ? "alert" : undefined}>
                {tried && fault ? fault : "Kept in the ledger beside your name."}
              </p>
              {problem ? (
                <Notice tone="red" role="alert">
                  <ProblemText problem={problem} />
                </Notice>
              ) : null}
            </>
          )}
          <div className="row" style={{ justifyContent: "flex-end" }}>
            <Button variant="outline" type="button" disabled={busy} onClick={close}>
              {answer ? "Close" : "Cancel"}
            </Button>
            {answer ? null : (
              <Button type="submit" colorPalette={tone} disabled={busy}>
                {busy ? "Working…" : verb}
              </Button>
            )}
          </div>
        </form>
      ) : null}
    </dialog>
  );
}

/** `crypto.randomUUID` is missing where Airflow is served over plain HTTP under a name that is not localhost. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20)].join("-");
}
