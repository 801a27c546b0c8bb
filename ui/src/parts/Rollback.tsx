/** The big button: what a rollback takes, what it returns to, what changes by it, and what it did. */

import { Button } from "@chakra-ui/react";
import { useState } from "react";

import * as api from "../api/endpoints.ts";
import type { Change, Endpoint, Me, RollbackAnswer } from "../api/types.ts";
import { milliseconds } from "../lib/format.ts";
import { Chip, Facts, Lamp, Notice, SplitBar, splitWords, type Tone } from "./basics.tsx";
import { ReasonDialog } from "./ReasonDialog.tsx";

const CHANGE_TONE: Record<string, Tone> = { "gate-loosened": "red", model: "blue", runtime: "blue" };

export function Changes({ changes }: { readonly changes: readonly Change[] }) {
  if (changes.length === 0) return <p className="muted">Nothing that users would notice.</p>;
  return (
    <div className="scroll" role="region" aria-label="What changes" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">What</th>
            <th scope="col">Now</th>
            <th scope="col">After</th>
          </tr>
        </thead>
        <tbody>
          {changes.map((change) => (
            <tr key={`${change.kind} ${change.what}`}>
              <td>
                <Chip tone={CHANGE_TONE[change.kind] ?? "gray"}>{change.kind.replace("-", " ")}</Chip> {change.what}
              </td>
              <td className="mono">{change.before}</td>
              <td className="mono">{change.after}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Done({ answer }: { readonly answer: RollbackAnswer }) {
  return (
    <>
      <Notice tone={answer.confirmed ? "green" : "amber"}>
        <strong>
          {answer.confirmed ? "Traffic has returned" : "Decided, and not yet confirmed by the plane"} in{" "}
          {milliseconds(answer.took_ms)}
        </strong>
        <p>{answer.done}</p>
      </Notice>
      <SplitBar traffic={answer.traffic} tall />
      <Facts
        items={[
          ["Serves now", <span className="mono">{answer.current}</span>],
          ["Traffic", splitWords(answer.traffic)],
          ["Plane confirmed in", milliseconds(answer.acknowledged_ms)],
          ["Ledger entry", answer.seq],
          ["Held back", answer.held_back],
          ["Notified", answer.notified.join(", ") || "nobody"],
          ...(answer.not_notified.length > 0 ? ([["Not reached", answer.not_notified.join(", ")]] as const) : []),
        ]}
      />
    </>
  );
}

export function RollbackPanel({ endpoint, me, changed }: { readonly endpoint: Endpoint; readonly me: Me | undefined; readonly changed: () => void }) {
  const [open, setOpen] = useState(false);
  const { rollback, readiness, row } = endpoint;
  const barred = me && !me.may_write ? (me.why_not ?? "Your role may not roll back.") : rollback.why_not;
  const may = me?.may_write === true && rollback.possible;
  return (
    <section className="card stack" aria-labelledby="rollback">
      <div className="row between">
        <h2 id="rollback">Rollback</h2>
        <Lamp lamp={readiness.lamp} reason={readiness.reason} />
      </div>
      {rollback.sentences.map((sentence) => (
        <p key={sentence}>{sentence}</p>
      ))}
      <details open={row.attention.length > 0}>
        <summary>What would change ({rollback.changes.length})</summary>
        <Changes changes={rollback.changes} />
      </details>
      <div>
        <Button colorPalette="red" size="lg" width="100%" disabled={!may} aria-describedby={may ? undefined : "rollback-barred"} onClick={() => setOpen(true)}>
          Roll back
        </Button>
        {may ? null : (
          <p id="rollback-barred" className="muted">
            {barred ?? "Asking what you may do…"}
          </p>
        )}
      </div>
      {readiness.reason && readiness.lamp !== "green" ? <p>{readiness.reason}</p> : null}
      <details>
        <summary>Readiness, check by check</summary>
        <ul className="plain stack tight">
          {readiness.checks.map((check) => (
            <li key={check.name}>
              <Chip tone={check.ok === null ? "gray" : check.ok ? "green" : "red"}>
                {check.ok === null ? "not known" : check.ok ? "ok" : "not ok"}
              </Chip>{" "}
              {check.name}
              {check.detail ? <span className="muted"> · {check.detail}</span> : null}
            </li>
          ))}
        </ul>
      </details>
      <ReasonDialog
        open={open}
        title={`Roll back ${row.endpoint}`}
        verb="Roll back now"
        tone="red"
        close={() => {
          setOpen(false);
          changed();
        }}
        act={async (reason, key) => {
          const answer = await api.rollBack(row, { reason, release: rollback.takes, rollout: null, hold: true }, key);
          changed();
          return answer;
        }}
        done={(answer) => <Done answer={answer} />}
      >
        <Facts
          items={[
            ...(rollback.takes ? ([["Takes away", <span className="mono">{rollback.takes}</span>]] as const) : []),
            ...(rollback.rejects ? ([["Rejects rollout", <span className="mono">{rollback.rejects}</span>]] as const) : []),
            ["Returns to", rollback.returns_to ? <span className="mono">{rollback.returns_to}</span> : "what serves: nobody's traffic changes"],
          ]}
        />
        <Changes changes={rollback.changes} />
      </ReasonDialog>
    </section>
  );
}
