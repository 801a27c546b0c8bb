/** One endpoint: what serves, why the system believes that it is well or ill, and the way back. */

import { useMemo, useState } from "react";
import { Link } from "react-router-dom";

import * as api from "../api/endpoints.ts";
import type { Endpoint as Answer, Me, Release, Series } from "../api/types.ts";
import { instant, milliseconds, number, percent } from "../lib/format.ts";
import { places } from "../lib/places.ts";
import { align, type Metric, totals } from "../lib/series.ts";
import { usePoll } from "../lib/usePoll.ts";
import { Chip, Facts, Notice, ROLE_TONE, SplitBar, When } from "../parts/basics.tsx";
import { Chart, type Mark } from "../parts/Chart.tsx";
import { EndpointFrame } from "../parts/frame.tsx";
import { HoldPanel } from "../parts/Hold.tsx";
import { RollbackPanel } from "../parts/Rollback.tsx";
import { Empty, Loaded } from "../parts/states.tsx";
import { HealthChip, stageWords } from "./Fleet.tsx";

const HOURS = [1, 6, 24, 72] as const;
const CHARTS: readonly [Metric, string, (value: number | null) => string][] = [
  ["requests", "Requests", (value) => number(value)],
  ["error_rate", "Errors", (value) => percent(value)],
  ["p95_ms", "Latency, 95th percentile", (value) => milliseconds(value)],
];
/** Colours of Chakra, by role; a canvas and a bar show one role alike. */
const COLOUR: Record<string, string> = { current: "blue", candidate: "orange", control: "purple", previous: "gray", other: "teal" };
const EVENT_COLOUR: Record<string, string> = {
  "rollback-decided": "red",
  "rolled-back": "red",
  promoted: "green",
  "rollout-opened": "blue",
  "rollout-rejected": "red",
};

export function Endpoint({ endpoint, me }: { readonly endpoint: api.Ref; readonly me: Me | undefined }) {
  const name = `${endpoint.environment}/${endpoint.name}`;
  const polled = usePoll(name, (signal) => api.endpoint(endpoint, signal), isMoving);
  return (
    <EndpointFrame endpoint={endpoint} title={<Title name={name} answer={polled.data} />}>
      <Loaded polled={polled} what={name}>
        {(answer) => (
          <>
            <Attention answer={answer} />
            <div className="sides">
              {/* First, for on a telephone everything is below it. */}
              <div className="aside stack">
                <RollbackPanel endpoint={answer} me={me} changed={polled.refresh} />
                <HoldPanel endpoint={answer} me={me} changed={polled.refresh} />
              </div>
              <div className="stack">
                <Traffic answer={answer} />
                <Telemetry endpoint={endpoint} moving={isMoving(answer)} />
              </div>
            </div>
            <Releases answer={answer} />
            <Alerts endpoint={endpoint} />
          </>
        )}
      </Loaded>
    </EndpointFrame>
  );
}

function isMoving(answer: Answer): boolean {
  return answer.row.rollout !== null || answer.row.rollback_under_way;
}

function Title({ name, answer }: { readonly name: string; readonly answer: Answer | undefined }) {
  return (
    <div className="row">
      <h1>{name}</h1>
      {answer ? <HealthChip health={answer.row.health} /> : null}
      {answer?.owner ? <span className="muted">owner {answer.owner}</span> : null}
      {answer?.contact ? <span className="muted">{answer.contact}</span> : null}
    </div>
  );
}

function Attention({ answer }: { readonly answer: Answer }) {
  const { row, incident, plane_error: planeError, last_result: last } = answer;
  const { doubt } = row;
  const quiet = row.attention.length === 0 && !incident && !doubt && !planeError;
  if (quiet) return last ? <LastResult endpoint={row} last={last} /> : null;
  return (
    <div className="stack tight">
      {incident ? (
        <Notice tone="red" role="alert">
          <strong>
            Unhealthy since <When at={incident.since} />
          </strong>
          <p>{incident.cause}</p>
          {incident.gates.length > 0 ? <p className="muted">Gates: {incident.gates.join(", ")}</p> : null}
        </Notice>
      ) : null}
      {doubt ? (
        <Notice tone="purple" role="status">
          <strong>
            Promotion of <span className="mono">{doubt.release}</span> in doubt since <When at={doubt.since} />
          </strong>
          <p>{doubt.cause}</p>
        </Notice>
      ) : null}
      {planeError ? (
        <Notice tone="amber" role="status">
          <strong>The serving plane does not answer.</strong> What follows is what the ledger knows. {planeError}
        </Notice>
      ) : null}
      {row.attention.length > 0 ? (
        <Notice tone="amber">
          <ul className="sentences">
            {row.attention.map((sentence) => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
        </Notice>
      ) : null}
      {last ? <LastResult endpoint={row} last={last} /> : null}
    </div>
  );
}

function LastResult({ endpoint, last }: { readonly endpoint: api.Ref; readonly last: NonNullable<Answer["last_result"]> }) {
  return (
    <p className="muted">
      Last rollout <Link to={places.rollout(endpoint, last.rollout)}>{last.ending.replace("-", " ")}</Link> <When at={last.at} relative />
      {last.cause ? `: ${last.cause}` : ""}
    </p>
  );
}

function Traffic({ answer }: { readonly answer: Answer }) {
  const { row } = answer;
  return (
    <section className="card stack tight" aria-labelledby="traffic">
      <div className="row between">
        <h2 id="traffic">Traffic</h2>
        {row.rollout ? (
          <span>
            Rollout: <Link to={places.rollout(row, row.rollout.id)}>{stageWords(row.rollout)}</Link>
            {row.rollout.on_hold ? <Chip tone="amber">on hold</Chip> : null}
          </span>
        ) : null}
      </div>
      {row.traffic.length === 0 ? (
        <p className="muted">No traffic plan: nothing has been released here yet.</p>
      ) : (
        <>
          <SplitBar traffic={row.traffic} tall />
          <ul className="plain row">
            {row.traffic.map(({ release, role, share }) => (
              <li key={`${role} ${release}`} className={`row tight tone-${ROLE_TONE[role] ?? "gray"}`}>
                <span className="dot square" aria-hidden="true" /> {role} {percent(share)} <span className="mono">{release}</span>
              </li>
            ))}
            {row.mirror ? (
              <li className="muted">
                {percent(row.mirror.fraction)} mirrored to <span className="mono">{row.mirror.release}</span>, which answers nobody
              </li>
            ) : null}
          </ul>
        </>
      )}
    </section>
  );
}

function Telemetry({ endpoint, moving }: { readonly endpoint: api.Ref; readonly moving: boolean }) {
  const [hours, setHours] = useState<number>(1);
  const polled = usePoll(
    `telemetry ${endpoint.environment}/${endpoint.name} ${hours}`,
    (signal) => api.telemetry(endpoint, { since: new Date(Date.now() - hours * 3_600_000).toISOString(), points: 60 }, signal),
    () => moving,
  );
  return (
    <section className="card stack" aria-labelledby="telemetry">
      <div className="row between">
        <h2 id="telemetry">What users get</h2>
        <label className="row tight">
          <span className="muted">Window</span>
          <select value={hours} onChange={(event) => setHours(Number(event.target.value))}>
            {HOURS.map((count) => (
              <option key={count} value={count}>
                {count === 1 ? "last hour" : `last ${count} hours`}
              </option>
            ))}
          </select>
        </label>
      </div>
      <Loaded polled={polled} what="telemetry">
        {(series) => <Charts series={series} />}
      </Loaded>
    </section>
  );
}

function Charts({ series }: { readonly series: Series }) {
  const lines = useMemo(
    () => series.releases.map(({ release, role }) => ({ label: `${role} ${release}`, colour: COLOUR[role] ?? "teal" })),
    [series],
  );
  const marks = useMemo<Mark[]>(
    () =>
      series.events.flatMap(({ at, summary, type }) => {
        const date = instant(at);
        return date ? [{ at: date.getTime() / 1000, label: summary, colour: EVENT_COLOUR[type] ?? "gray" }] : [];
      }),
    [series],
  );
  const aligned = useMemo(() => CHARTS.map(([metric]) => align(series, metric)), [series]);
  const sums = totals(series);
  const none = sums.every(({ requests }) => requests === 0);
  return (
    <>
      {series.complete ? null : (
        <Notice tone="amber" role="status">
          Some of this window was not measured. {series.detail}
        </Notice>
      )}
      {none ? <Empty title="No request in this window">Zero traffic is no fault by itself; nothing can be judged of it.</Empty> : null}
      {none
        ? null
        : CHARTS.map(([metric, title, format], at) => {
            const { times, rows } = aligned[at] ?? { times: [], rows: [] };
            return <Chart key={metric} title={title} times={times} rows={rows} lines={lines} marks={marks} format={format} />;
          })}
      <div className="scroll" role="region" aria-label="Releases beside each other" tabIndex={0}>
        <table>
          <caption className="visually-hidden">What each release answered in this window</caption>
          <thead>
            <tr>
              <th scope="col">Release</th>
              <th scope="col" className="right">
                Requests
              </th>
              <th scope="col" className="right">
                Errors
              </th>
              <th scope="col" className="right">
                Error rate
              </th>
              <th scope="col" className="right">
                Worst p95
              </th>
            </tr>
          </thead>
          <tbody>
            {sums.map((side) => (
              <tr key={side.release} className={`tone-${ROLE_TONE[side.role] ?? "gray"}`}>
                <td>
                  <span className="row tight">
                    <span className="dot square" aria-hidden="true" /> {side.role} <span className="mono">{side.release}</span>
                  </span>
                </td>
                <td className="right num">{number(side.requests)}</td>
                <td className="right num">{number(side.errors)}</td>
                <td className="right num">{percent(side.errorRate)}</td>
                <td className="right num">{milliseconds(side.worstP95)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {series.events.length > 0 ? (
        <details>
          <summary>Events in this window ({series.events.length})</summary>
          <ul className="plain stack tight">
            {series.events.map((event) => (
              <li key={event.seq}>
                <When at={event.at} /> <Chip tone={EVENT_COLOUR[event.type] === "red" ? "red" : "gray"}>{event.type}</Chip> {event.summary}
              </li>
            ))}
          </ul>
        </details>
      ) : null}
    </>
  );
}

function Releases({ answer }: { readonly answer: Answer }) {
  const sides = [
    ["Current", answer.current],
    ["Previous", answer.previous],
    ["Candidate", answer.candidate],
  ] as const;
  return (
    <section aria-labelledby="releases">
      <h2 id="releases">Releases</h2>
      <div className="grid">
        {sides.map(([title, release]) =>
          release ? <ReleaseCard key={title} title={title} release={release} /> : title === "Candidate" ? null : (
            <div key={title} className="card">
              <h3>{title}</h3>
              <p className="muted">{title === "Current" ? "Nothing serves here yet." : "There is none: a rollback has nothing to return to."}</p>
            </div>
          ),
        )}
      </div>
    </section>
  );
}

const short = (digest: string) => (digest ? <span className="mono" title={digest}>{digest.slice(0, 19)}…</span> : null);

export function ReleaseCard({ title, release }: { readonly title: string; readonly release: Release }) {
  const metrics = Object.entries(release.metrics);
  return (
    <div className="card stack tight">
      <h3>{title}</h3>
      <Facts
        items={[
          ["Release", <span className="mono">{release.id}</span>],
          ["Model", `${release.model} ${release.version}`],
          ["Runtime", `${release.runtime} (${release.runtime_kind})`],
          ["Data", `${release.dataset}, ${number(release.dataset_rows)} rows`],
          ["Features", release.features ?? "none"],
          ["Code", <span className="mono">{release.code_version}</span>],
          ["On the plane", release.on_plane ? `${release.on_plane.state}${release.on_plane.restarts ? `, restarted ${release.on_plane.restarts}×` : ""}` : "not there, or not known"],
          ["Artifact", short(release.artifact_digest)],
        ]}
      />
      {metrics.length > 0 ? (
        <details>
          <summary>Evaluation ({metrics.length})</summary>
          <Facts items={metrics.map(([metric, value]) => [metric, number(value)] as const)} />
        </details>
      ) : null}
    </div>
  );
}

function Alerts({ endpoint }: { readonly endpoint: api.Ref }) {
  const polled = usePoll(`alerts ${endpoint.environment}/${endpoint.name}`, (signal) => api.alerts(endpoint, { limit: 10 }, signal));
  return (
    <section className="card stack tight" aria-labelledby="alerts">
      <h2 id="alerts">Alerts</h2>
      <Loaded polled={polled} what="alerts">
        {({ items }) =>
          items.length === 0 ? (
            <p className="muted">On-call has been told of nothing here.</p>
          ) : (
            <ul className="plain stack tight">
              {items.map((alert) => (
                <li key={alert.seq}>
                  <details>
                    <summary>
                      <When at={alert.at} />{" "}
                      <Chip tone={alert.state === "delivered" ? "gray" : "red"}>
                        {alert.state === "delivered" ? "delivered" : `${alert.state}, ${alert.tries} tries`}
                      </Chip>{" "}
                      {alert.title}
                    </summary>
                    <p style={{ whiteSpace: "pre-wrap" }}>{alert.body}</p>
                    <p className="muted">
                      {alert.severity} · channel {alert.channel}
                      {alert.notified.length > 0 ? ` · reached ${alert.notified.join(", ")}` : ""}
                    </p>
                    {alert.failures.map((failure) => (
                      <p key={failure}>{failure}</p>
                    ))}
                  </details>
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
    </section>
  );
}
