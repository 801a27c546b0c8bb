/** Drift: which features moved where the model scores otherwise, and whose rows did it. */

import { Link } from "react-router-dom";

import * as api from "../api/endpoints.ts";
import type { DriftEvent as Event, DriftSummary, Verdict } from "../api/types.ts";
import { batches, type Feature, features, type Shift } from "../lib/drift.ts";
import { number, percent } from "../lib/format.ts";
import { places } from "../lib/places.ts";
import { usePaged } from "../lib/usePaged.ts";
import { usePoll } from "../lib/usePoll.ts";
import { Chip, Notice, VerdictChip, verdictTone, When } from "../parts/basics.tsx";
import { CardTable } from "../parts/CardTable.tsx";
import { EndpointFrame } from "../parts/frame.tsx";
import { PagedItems } from "../parts/More.tsx";
import { Empty, Loaded } from "../parts/states.tsx";
import { Task } from "./Rollout.tsx";

/** Requests that named no batch. */
const UNNAMED = "requests without a batch";

export function DriftEvents({ endpoint }: { readonly endpoint: api.Ref }) {
  const name = `${endpoint.environment}/${endpoint.name}`;
  const paged = usePaged<DriftSummary>(`drift ${name}`, (before, signal) => api.driftEvents(endpoint, { limit: 20, before }, signal));
  return (
    <EndpointFrame endpoint={endpoint} here="Drift" title={<h1>Drift of {name}</h1>}>
      <PagedItems
        paged={paged}
        what="drift events"
        empty={<Empty title="Nobody has looked for drift yet">A look is a task of the release Dag, or `mlpipex drift` at a terminal.</Empty>}
      >
        {(items) => (
          <CardTable label="Drift events" columns={["Looked at", "Window", "Verdict", "Worst features", "What was found"]}>
            {items.map((item) => (
              <tr key={item.seq} role="row" className="pick">
                <td role="cell" data-label="Looked at">
                  <Link to={places.driftEvent(endpoint, item.seq)}>
                    <When at={item.at} />
                  </Link>
                </td>
                <td role="cell" data-label="Window">
                  <span>
                    <When at={item.since} /> – <When at={item.until} />
                  </span>
                </td>
                <td role="cell" data-label="Verdict">
                  <span>
                    <VerdictChip verdict={item.verdict} />
                  </span>
                </td>
                <td role="cell" data-label="Worst features">
                  {item.features
                    .slice(0, 3)
                    .map(({ column, damage }) => `${column}${damage === null ? "" : ` ${number(damage, 2)}`}`)
                    .join(", ")}
                </td>
                <td role="cell" data-label="Found">
                  {item.reason}
                </td>
              </tr>
            ))}
          </CardTable>
        )}
      </PagedItems>
    </EndpointFrame>
  );
}

export function DriftEvent({ endpoint, seq }: { readonly endpoint: api.Ref; readonly seq: number }) {
  const polled = usePoll(`drift ${endpoint.environment}/${endpoint.name} ${seq}`, (signal) => api.driftEvent(endpoint, seq, signal));
  return (
    <EndpointFrame endpoint={endpoint} here={`Drift event ${seq}`} title={<h1>Drift event {seq}</h1>}>
      <Loaded polled={polled} what="the drift event">
        {(event) => <Detail endpoint={endpoint} event={event} />}
      </Loaded>
    </EndpointFrame>
  );
}

function Detail({ endpoint, event }: { readonly endpoint: api.Ref; readonly event: Event }) {
  const { summary } = event;
  const ranked = features(event);
  const most = Math.max(0.1, ...ranked.map(({ damage }) => damage ?? 0));
  return (
    <>
      <Notice tone={verdictTone(summary.verdict)}>
        <div className="row">
          <VerdictChip verdict={summary.verdict} />
          <span>
            <When at={summary.since} /> – <When at={summary.until} />
          </span>
          <span className="mono">{summary.release}</span>
        </div>
        <p>{summary.reason}</p>
      </Notice>
      <section aria-labelledby="features">
        <h2 id="features">Features, by the damage that their drift does to the score</h2>
        {ranked.length === 0 ? <Empty title="No feature drifted" /> : null}
        <div className="tiles">
          {ranked.map((feature) => (
            <FeatureTile key={feature.column} feature={feature} most={most} />
          ))}
        </div>
      </section>
      <Batches endpoint={endpoint} event={event} />
    </>
  );
}

function FeatureTile({ feature, most }: { readonly feature: Feature; readonly most: number }) {
  const verdict = (["pass", "fail", "inconclusive", "error"].includes(feature.verdict) ? feature.verdict : null) as Verdict | null;
  return (
    <article className="card stack tight" aria-label={`Feature ${feature.column}`}>
      <div className="row between">
        <h3>{feature.column}</h3>
        <VerdictChip verdict={verdict} />
      </div>
      <div className={`tone-${verdictTone(verdict)}`}>
        <div className="bar" style={{ width: `${Math.max(1, ((feature.damage ?? 0) / most) * 100)}%` }} aria-hidden="true" />
        <span className="muted num">
          damage {feature.damage === null ? "not known" : `${number(feature.damage)} sd of the score`} · PSI {number(feature.psi)}
        </span>
      </div>
      {feature.shifts.length > 0 ? <Distribution column={feature.column} shifts={feature.shifts} /> : null}
      {feature.reason ? <p>{feature.reason}</p> : null}
      {feature.scoreShift !== null ? <p className="muted">Moves the mean score by {number(feature.scoreShift)}.</p> : null}
    </article>
  );
}

/** The groups of values that moved most, as they were in training and as they were served. */
function Distribution({ column, shifts }: { readonly column: string; readonly shifts: readonly Shift[] }) {
  const most = Math.max(...shifts.flatMap(({ trained, served }) => [trained, served]), 1e-9);
  const height = (share: number) => ({ height: `${(share / most) * 100}%` });
  return (
    <div>
      <div className="bins" aria-hidden="true">
        {shifts.map((shift) => (
          <div key={shift.group} className="bin" title={shift.group}>
            <span className="tone-gray" style={height(shift.trained)} />
            <span className="tone-amber" style={height(shift.served)} />
          </div>
        ))}
      </div>
      <div className="row muted" aria-hidden="true">
        <span className="row tight tone-gray">
          <span className="dot square" /> trained on
        </span>
        <span className="row tight tone-amber">
          <span className="dot square" /> served
        </span>
      </div>
      <details>
        <summary>In numbers</summary>
        <table>
          <caption className="visually-hidden">Groups of {column} that moved most</caption>
          <thead>
            <tr>
              <th scope="col">Group</th>
              <th scope="col" className="right">
                Trained on
              </th>
              <th scope="col" className="right">
                Served
              </th>
            </tr>
          </thead>
          <tbody>
            {shifts.map((shift) => (
              <tr key={shift.group}>
                <td className="mono">{shift.group}</td>
                <td className="right num">{percent(shift.trained)}</td>
                <td className="right num">{percent(shift.served)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </div>
  );
}

function Batches({ endpoint, event }: { readonly endpoint: api.Ref; readonly event: Event }) {
  const ranked = batches(event);
  const knownBatches = new Map(event.batches.map((batch) => [batch.id, batch]));
  return (
    <section aria-labelledby="batches">
      <h2 id="batches">Batches, by the part of the drift that goes away with them</h2>
      {ranked.length === 0 ? (
        <p className="muted">No single batch carries it.</p>
      ) : (
        <CardTable label="Batches" columns={["Batch", "Part of the drift", "Rows", "Sent by", "By itself"]}>
          {ranked.map((batch) => (
            <tr key={batch.id} role="row">
              <td role="cell" data-label="Batch">
                {knownBatches.has(batch.id) && batch.id ? <Link to={places.batch(endpoint, batch.id)}>{batch.id}</Link> : batch.id || UNNAMED}
              </td>
              <td role="cell" data-label="Part">
                <div>
                  {batch.shares.map(([column, share]) => (
                    <div key={column} className="tone-amber">
                      <div className="bar" style={{ width: `${Math.min(1, share) * 100}%` }} aria-hidden="true" />
                      <span className="num">
                        {percent(share)} of {column}
                      </span>
                    </div>
                  ))}
                </div>
              </td>
              <td role="cell" data-label="Rows" className="num">
                {number(batch.rows)}
              </td>
              <td role="cell" data-label="Sent by">
                <Task origin={knownBatches.get(batch.id)?.origin ?? null} />
              </td>
              <td role="cell" data-label="By itself">
                <div>
                  {batch.faults.map((fault) => (
                    <div key={fault}>
                      <Chip tone="red">faulty</Chip> {fault}
                    </div>
                  ))}
                </div>
              </td>
            </tr>
          ))}
        </CardTable>
      )}
    </section>
  );
}
