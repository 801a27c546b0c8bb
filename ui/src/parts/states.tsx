/** The states that every view has beside its data: it loads, there is nothing, it failed, it is out of date. */

import { Button } from "@chakra-ui/react";
import type { ReactNode } from "react";

import type { Problem } from "../api/client.ts";
import { duration } from "../lib/format.ts";
import type { Polled } from "../lib/usePoll.ts";
import { Notice } from "./basics.tsx";

const RUNBOOKS = "docs/runbooks";

export function Loading({ what, lines = 4 }: { readonly what: string; readonly lines?: number }) {
  return (
    <div className="stack" role="status" aria-label={`Loading ${what}`}>
      {Array.from({ length: lines }, (_, line) => (
        <div key={line} className="skeleton" style={{ width: `${100 - ((line * 17) % 45)}%` }} />
      ))}
    </div>
  );
}

export function Empty({ title, children }: { readonly title: string; readonly children?: ReactNode }) {
  return (
    <div className="empty">
      <strong>{title}</strong>
      {children ? <p className="muted">{children}</p> : null}
    </div>
  );
}

/** A refusal in full: what, which value, against which limit, what to do, and its page. */
export function ProblemText({ problem }: { readonly problem: Problem }) {
  return (
    <>
      <strong>{problem.title}</strong>
      <p>{problem.detail}</p>
      {problem.remedy ? <p>What to do: {problem.remedy}</p> : null}
      {problem.runbook ? (
        <p className="muted">
          Runbook: <span className="mono">{`${RUNBOOKS}/${problem.runbook}.md`}</span>
        </p>
      ) : null}
    </>
  );
}

export function Failed({ problem, retry }: { readonly problem: Problem; readonly retry?: () => void }) {
  return (
    <Notice tone={problem.status === 404 ? "gray" : "red"} role="alert">
      <ProblemText problem={problem} />
      <div className="row" style={{ marginTop: 8 }}>
        {retry ? (
          <Button size="sm" variant="outline" onClick={retry}>
            Try again
          </Button>
        ) : null}
        {problem.status === 401 ? (
          <Button size="sm" variant="outline" onClick={() => globalThis.location.reload()}>
            Log in again
          </Button>
        ) : null}
      </div>
    </Notice>
  );
}

/** What is on the page while new answers fail or stay away: the last good one, and how old it is. */
function OutOfDate<Answer>({ polled }: { readonly polled: Polled<Answer> }) {
  if (!polled.problem && !polled.stale) return null;
  const old = duration((Date.now() - polled.answeredAt) / 1000);
  return (
    <Notice tone="amber" role="status">
      <strong>Out of date:</strong> what follows is {old} old. {polled.problem?.detail}{" "}
      <Button size="xs" variant="outline" onClick={polled.refresh}>
        Ask again
      </Button>{" "}
      {polled.problem?.status === 401 ? (
        <Button size="xs" variant="outline" onClick={() => globalThis.location.reload()}>
          Log in again
        </Button>
      ) : null}
    </Notice>
  );
}

export function Loaded<Answer>({
  polled,
  what,
  children,
}: {
  readonly polled: Polled<Answer>;
  readonly what: string;
  readonly children: (answer: Answer) => ReactNode;
}) {
  if (polled.data === undefined) {
    return polled.problem ? <Failed problem={polled.problem} retry={polled.refresh} /> : <Loading what={what} />;
  }
  return (
    <>
      <OutOfDate polled={polled} />
      {children(polled.data)}
    </>
  );
}
