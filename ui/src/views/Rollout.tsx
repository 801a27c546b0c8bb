/** One rollout: its stages in time, each with its task and log, and a tile for every gate. */

import { Link } from "react-router-dom";

import * as api from "../api/endpoints.ts";
import type { Origin, RolloutDetail, RolloutSummary, Stage, StageState } from "../api/types.ts";
import { duration, instant, percent } from "../lib/format.ts";
import { places } from "../lib/places.ts";
import { usePaged } from "../lib/usePaged.ts";
import { usePoll } from "../lib/usePoll.ts";
import { Chip, Facts, Notice, type Tone, VerdictChip, When } from "../parts/basics.tsx";
import { CardTable } from "../parts/CardTable.tsx";
import { EndpointFrame } from "../parts/frame.tsx";
import { GateTile } from "../parts/GateTile.tsx";
import { PagedItems } from "../parts/More.tsx";
import { Changes } from "../parts/Rollback.tsx";
import { Empty, Loaded } from "../parts/states.tsx";
import { ReleaseCard } from "./Endpoint.tsx";

const STATE: Record<StageState, { tone: Tone; mark: string; words: string }> = {
  done: { tone: "green", mark: "✓", words: "done" },
  now: { tone: "blue", mark: "", words: "now" },
  ahead: { tone: "gray", mark: "", words: "ahead" },
  held: { tone: "amber", mark: "‖", words: "on hold" },
  failed: { tone: "red", mark: "✗", words: "ended it" },
};

const ENDING: Record<string, Tone> = { promoted: "green", "rolled-back": "red", rejected: "red" };

/** Where a thing was done: the page of the task, which has its log. */
export function Task({ origin }: { readonly origin: Origin | null }) {
  if (!origin) return null;
  const words = origin.task_id ? `${origin.dag_id} · ${origin.task_id}` : [origin.kind, origin.user].filter(Boolean).join(" ");
  if (!origin.href) return <span className="muted">{words}</span>;
  return <Link to={origin.href}>{words} (task and log)</Link>;
}

export function Rollout({ endpoint, id }: { readonly endpoint: api.Ref; readonly id: string }) {
  const polled = usePoll(
    `rollout ${endpoint.environment}/${endpoint.name} ${id}`,
    (signal) => api.rollout(endpoint, id, signal),
    ({ summary }) => summary.phase !== "ended",
  );
  return (
    <EndpointFrame endpoint={endpoint} here="Rollout" title={<h1>Rollout of {polled.data?.summary.candidate ?? "…"}</h1>}>
      <Loaded polled={polled} what="the rollout">
        {(detail) => <Detail endpoint={endpoint} detail={detail} />}
      </Loaded>
    </EndpointFrame>
  );
}

function Detail({ endpoint, detail }: { readonly endpoint: api.Ref; readonly detail: RolloutDetail }) {
  const { summary, stages, review, changes } = detail;
  return (
    <>
      {summary.on_hold ? (
        <Notice tone="amber" role="status">
          <strong>It waits for a person</strong> since <When at={summary.on_hold.since} />
          {summary.on_hold.by ? `, stopped by ${summary.on_hold.by}` : ""}
          <p>{summary.on_hold.cause}</p>
        </Notice>
      ) : null}
      {detail.trouble ? (
        <Notice tone="amber" role="status">
          <strong>The stage under way is not measured right now.</strong> {detail.trouble}
        </Notice>
      ) : null}
      {summary.ending ? (
        <Notice tone={ENDING[summary.ending] ?? "gray"}>
          <strong>{summary.ending.replace("-", " ")}</strong> <When at={summary.ended_at} />
          {summary.cause ? <p>{summary.cause}</p> : null}
        </Notice>
      ) : null}
      <div className="grid">
        <div className="card">
          <Facts
            items={[
              ["Rollout", <span className="mono">{summary.id}</span>],
              ["Opened", <When at={summary.opened_at} />],
              ["By", <Task origin={summary.origin} />],
              ["Beside", <span className="mono">{detail.baseline ?? "nothing: a first release"}</span>],
              ["Review", review ? <Review review={review} /> : "none"],
            ]}
          />
        </div>
        <div className="card">
          <h2>What it changes</h2>
          <Changes changes={changes} />
        </div>
      </div>
      <section className="card" aria-labelledby="stages">
        <h2 id="stages">Stages</h2>
        {stages.length === 0 ? <Empty title="No stage has begun" /> : null}
        <ol className="plain stages">
          {stages.map((stage) => (
            <StageItem key={`${stage.stage} ${stage.step ?? ""}`} stage={stage} endpoint={endpoint} rollout={summary.id} />
          ))}
        </ol>
      </section>
      <ReleaseCard title="Candidate" release={detail.release} />
    </>
  );
}

function Review({ review }: { readonly review: NonNullable<RolloutDetail["review"]> }) {
  const verb = review.approved === null ? "open" : review.approved ? "approved" : "rejected";
  return (
    <span>
      {verb} {review.automatic ? `by policy ${review.automatic}` : review.by ? `by ${review.by}` : ""} <When at={review.at} />
      {review.note ? `: ${review.note}` : ""}
    </span>
  );
}

function took(stage: Stage): string {
  const since = instant(stage.since);
  const until = instant(stage.until);
  return since && until ? duration((until.getTime() - since.getTime()) / 1000) : "";
}

function StageItem({ stage, endpoint, rollout }: { readonly stage: Stage; readonly endpoint: api.Ref; readonly rollout: string }) {
  const { tone, mark, words } = STATE[stage.state];
  const hollow = stage.state === "ahead" || stage.state === "now";
  return (
    <li className={`tone-${tone}`} aria-current={stage.state === "now" ? "step" : undefined}>
      <span className={`bullet${hollow ? " hollow" : ""}`} aria-hidden="true">
        {mark}
      </span>
      <div className="stack tight">
        <div className="row">
          <h3>
            {stage.stage}
            {stage.share === null ? "" : ` at ${percent(stage.share)}`}
          </h3>
          <Chip tone={tone}>{words}</Chip>
          {stage.verdict ? <VerdictChip verdict={stage.verdict} /> : null}
          {stage.since ? (
            <span className="muted">
              <When at={stage.since} /> {took(stage) ? `· took ${took(stage)}` : ""}
            </span>
          ) : null}
          <Task origin={stage.task} />
        </div>
        {stage.gates.length > 0 ? (
          <div className="tiles">
            {stage.gates.map((gate) => (
              <GateTile key={gate.gate} gate={gate} series={{ endpoint, rollout }} />
            ))}
          </div>
        ) : null}
      </div>
    </li>
  );
}

export function Rollouts({ endpoint }: { readonly endpoint: api.Ref }) {
  const name = `${endpoint.environment}/${endpoint.name}`;
  const paged = usePaged<RolloutSummary>(`rollouts ${name}`, (before, signal) => api.rollouts(endpoint, { limit: 20, before }, signal));
  return (
    <EndpointFrame endpoint={endpoint} here="Rollouts" title={<h1>Rollouts of {name}</h1>}>
      <PagedItems
        paged={paged}
        what="rollouts"
        empty={<Empty title="No rollout yet">The first one opens when a release Dag reaches this environment.</Empty>}
      >
        {(items) => (
          <CardTable label="Rollouts" columns={["Opened", "Candidate", "Where it is", "Cause", "By"]}>
            {items.map((rollout) => (
              <tr key={rollout.seq} role="row" className="pick">
                <td role="cell" data-label="Opened">
                  <When at={rollout.opened_at} />
                </td>
                <td role="cell" data-label="Candidate">
                  <Link to={places.rollout(endpoint, rollout.id)}>
                    {rollout.model} <span className="mono">{rollout.candidate}</span>
                  </Link>
                </td>
                <td role="cell" data-label="Where it is">
                  <Chip tone={rollout.ending ? (ENDING[rollout.ending] ?? "gray") : rollout.on_hold ? "amber" : "blue"}>
                    {rollout.ending?.replace("-", " ") ?? (rollout.on_hold ? `${rollout.phase}, on hold` : rollout.phase)}
                  </Chip>
                </td>
                <td role="cell" data-label="Cause">
                  {rollout.cause}
                </td>
                <td role="cell" data-label="By">
                  <Task origin={rollout.origin} />
                </td>
              </tr>
            ))}
          </CardTable>
        )}
      </PagedItems>
    </EndpointFrame>
  );
}
