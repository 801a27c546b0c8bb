/** Hold and resume, keep a promotion in doubt, and try the way back before it is needed. */

import { Button } from "@chakra-ui/react";
import { type ReactNode, useState } from "react";

import * as api from "../api/endpoints.ts";
import type { Drill, Endpoint, Me } from "../api/types.ts";
import { milliseconds, number } from "../lib/format.ts";
import { Facts, Notice, When } from "./basics.tsx";
import { ReasonDialog } from "./ReasonDialog.tsx";

type Verb = "hold" | "resume" | "accept" | "confirm" | "abort" | "drill";

interface Deed {
  readonly title: string;
  readonly verb: string;
  readonly tone?: "red" | "blue";
  readonly says: ReactNode;
  readonly act: (reason: string, key: string) => Promise<string>;
}

function drilled(drill: Drill): string {
  const there = `back in ${milliseconds(drill.back_ms)}, forth in ${milliseconds(drill.forth_ms)}`;
  const lost = drill.requests === null ? "" : `; ${number(drill.failed_requests)} of ${number(drill.requests)} requests failed`;
  return `${drill.ok ? "The way back works" : "The drill failed"}: ${there}${lost}. ${drill.detail}`;
}

export function HoldPanel({ endpoint, me, changed }: { readonly endpoint: Endpoint; readonly me: Me | undefined; readonly changed: () => void }) {
  // The deed itself: what the endpoint allows changes by it, while its answer is still read.
  const [shown, setShown] = useState<Deed>();
  const { row, may, held_back: held, doubt } = endpoint;
  const { rollout } = row;
  const allowed = me?.may_write === true;
  const stopped = rollout?.on_hold ? (rollout.hold_cause ?? "no cause was given") : null;
  const deeds: Partial<Record<Verb, Deed>> = {};
  if (held || stopped) {
    deeds.resume = {
      title: `Resume ${row.endpoint}`,
      verb: "Resume",
      says: held ? held.sentence : `The rollout goes on. It was held: ${stopped ?? ""}`,
      act: async (reason) => {
        await api.resume(row, { reason, rollout: held ? null : (rollout?.id ?? null), accept: false });
        return "Resumed.";
      },
    };
  }
  if (stopped && rollout && !held) {
    deeds.accept = {
      title: `Accept what gates could not decide on ${row.endpoint}`,
      verb: "Accept and go on",
      says: `You answer for it in place of the gates. It was held: ${stopped}`,
      act: async (reason) => {
        await api.resume(row, { reason, rollout: rollout.id, accept: true });
        return "Accepted; the rollout goes on.";
      },
    };
  }
  if (!held || (rollout && !stopped)) {
    const onlyRollout = rollout !== null && !stopped;
    deeds.hold = {
      title: onlyRollout ? `Hold the rollout of ${row.endpoint}` : `Hold ${row.endpoint}`,
      verb: "Hold",
      says: onlyRollout
        ? "Traffic stays as it is, and the rollout goes no further until somebody resumes it."
        : "Automation releases nothing here until somebody resumes.",
      act: async (reason) => {
        await api.hold(row, { reason, rollout: onlyRollout ? rollout.id : null });
        return "On hold.";
      },
    };
  }
  if (rollout && rollout.phase !== "watching") {
    deeds.abort = {
      title: `Abort the rollout of ${rollout.candidate}`,
      verb: "Abort the rollout",
      tone: "red",
      says: "The candidate gets no more traffic; what served before it serves alone.",
      act: async (reason, key) => (await api.abort(row, { reason, rollout: rollout.id }, key)).done,
    };
  }
  if (doubt) {
    deeds.confirm = {
      title: `Keep ${doubt.release}`,
      verb: "Keep it",
      says: `Late labels put its promotion in doubt: ${doubt.cause}`,
      act: async (reason) => {
        await api.confirm(row, { reason, release: doubt.release });
        return "Kept; the promotion stands.";
      },
    };
  }
  deeds.drill = {
    title: `Drill ${row.endpoint}`,
    verb: "Roll back and forward now",
    says: "Every request really goes to the previous release for a moment, and back. The seconds and failed requests are kept in the ledger.",
    act: async (reason, key) => drilled(await api.drill(row, { reason }, key)),
  };
  const last = endpoint.readiness.last_drill;
  const label: Record<Verb, string> = {
    hold: rollout && !stopped ? "Hold the rollout" : "Hold the endpoint",
    resume: "Resume",
    accept: "Accept and go on",
    confirm: "Keep the promotion",
    abort: "Abort the rollout",
    drill: "Drill",
  };
  return (
    <section className="card stack tight" aria-labelledby="hold">
      <h2 id="hold">Hold and drill</h2>
      {held ? (
        <Notice tone="amber">
          <strong>On hold</strong> by {held.by || "automation"} since <When at={held.since} />
          <p>{held.sentence}</p>
        </Notice>
      ) : null}
      {stopped ? (
        <Notice tone="amber">
          <strong>The rollout waits for a person</strong>
          <p>{stopped}</p>
        </Notice>
      ) : null}
      <div className="row">
        {(Object.keys(deeds) as Verb[]).map((verb) => (
          <Button
            key={verb}
            size="sm"
            variant="outline"
            disabled={!allowed || (verb === "drill" && !may.drill)}
            title={verb === "drill" ? (may.why_not_drill ?? undefined) : undefined}
            onClick={() => setShown(deeds[verb])}
          >
            {label[verb]}
          </Button>
        ))}
      </div>
      {!may.drill && may.why_not_drill ? <p className="muted">{may.why_not_drill}</p> : null}
      <Facts items={[["Last drill", last ? <span><When at={last.at} relative /> by {last.by}. {drilled(last)}</span> : "none yet"]]} />
      <ReasonDialog
        open={shown !== undefined}
        title={shown?.title ?? ""}
        verb={shown?.verb ?? ""}
        tone={shown?.tone ?? "blue"}
        close={() => {
          setShown(undefined);
          changed();
        }}
        act={async (reason, key) => {
          const said = (await shown?.act(reason, key)) ?? "";
          changed();
          return said;
        }}
        done={(said: string) => <Notice tone="green">{said}</Notice>}
      >
        <p>{shown?.says}</p>
      </ReasonDialog>
    </section>
  );
}
