/** One batch of requests: how much of a drift it carries, which Dag run sent it, and a few of its rows. */

import { Button } from "@chakra-ui/react";
import { useState } from "react";
import { Link } from "react-router-dom";

import * as api from "../api/endpoints.ts";
import type { Batch as Answer, Me } from "../api/types.ts";
import { number, percent } from "../lib/format.ts";
import { usePoll } from "../lib/usePoll.ts";
import { Facts, Notice, When } from "../parts/basics.tsx";
import { EndpointFrame } from "../parts/frame.tsx";
import { Empty, Loaded } from "../parts/states.tsx";
import { Task } from "./Rollout.tsx";

const ROWS = 20;

export function Batch({ endpoint, id, me }: { readonly endpoint: api.Ref; readonly id: string; readonly me: Me | undefined }) {
  const polled = usePoll(`batch ${endpoint.environment}/${endpoint.name} ${id}`, (signal) => api.batch(endpoint, id, signal));
  return (
    <EndpointFrame endpoint={endpoint} here={`Batch ${id}`} title={<h1>Batch {id}</h1>}>
      <Loaded polled={polled} what="the batch">
        {(batch) => <Detail endpoint={endpoint} batch={batch} me={me} />}
      </Loaded>
    </EndpointFrame>
  );
}

function Detail({ endpoint, batch, me }: { readonly endpoint: api.Ref; readonly batch: Answer; readonly me: Me | undefined }) {
  const { origin } = batch;
  const answered = Object.entries(batch.answered);
  return (
    <>
      <div className="card">
        <Facts
          items={[
            ["Rows", number(batch.rows)],
            ["Part of the drift", percent(batch.share)],
            ["Written down", <When at={batch.at} />],
            ["Sent by", origin ? <Task origin={origin} /> : "no task says that it sent it"],
            [
              "Dag run",
              origin?.run_id ? (
                <Link to={`/dags/${encodeURIComponent(origin.dag_id)}/runs/${encodeURIComponent(origin.run_id)}`}>{origin.run_id}</Link>
              ) : null,
            ],
            ["Snapshot", <span className="mono">{batch.digest ?? "–"}</span>],
            ["Answered by", answered.length > 0 ? answered.map(([release, rows]) => `${release}: ${number(rows)} rows`).join(", ") : null],
          ]}
        />
      </div>
      <section className="card stack tight" aria-labelledby="rows">
        <h2 id="rows">Sample rows</h2>
        {me && !me.may_write ? (
          <p className="muted">Rows are of people. Only who may roll back here sees them.</p>
        ) : answered.length === 0 ? (
          <p className="muted">No release answered it.</p>
        ) : (
          <Sample endpoint={endpoint} batch={batch.id} release={answered[0]?.[0] ?? ""} />
        )}
      </section>
    </>
  );
}

/** Rows are asked for by a click alone: nobody should see them by accident, over a shoulder or on a shared screen. */
function Sample({ endpoint, batch, release }: { readonly endpoint: api.Ref; readonly batch: string; readonly release: string }) {
  const [open, setOpen] = useState(false);
  return open ? (
    <Rows endpoint={endpoint} batch={batch} release={release} />
  ) : (
    <div>
      <Button size="sm" variant="outline" onClick={() => setOpen(true)}>
        Show {ROWS} rows
      </Button>
    </div>
  );
}

function Rows({ endpoint, batch, release }: { readonly endpoint: api.Ref; readonly batch: string; readonly release: string }) {
  const polled = usePoll(`rows ${endpoint.environment}/${endpoint.name} ${release} ${batch}`, (signal) =>
    api.rows(endpoint, { batch, release, limit: ROWS }, signal),
  );
  return (
    <Loaded polled={polled} what="rows">
      {(rows) =>
        rows.rows.length === 0 ? (
          <Empty title="No rows are left">The prediction log keeps them for some days.</Empty>
        ) : (
          <>
            {rows.dropped_share > 0 ? (
              <Notice tone="amber">{percent(rows.dropped_share)} of the requests were not logged: a full queue drops, and counts.</Notice>
            ) : null}
            <div className="scroll" role="region" aria-label="Sample rows" tabIndex={0}>
              <table>
                <thead>
                  <tr>
                    {rows.columns.map((column) => (
                      <th key={column} scope="col">
                        {column}
                      </th>
                    ))}
                  </tr>
                </thead>
                <tbody>
                  {rows.rows.map((row, at) => (
                    <tr key={at}>
                      {rows.columns.map((column) => (
                        <td key={column} className="mono">
                          {cell(row[column])}
                        </td>
                      ))}
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
            <p className="muted">
              {number(rows.sampled)} of {number(rows.total)} rows that <span className="mono">{rows.release}</span> answered.
            </p>
          </>
        )
      }
    </Loaded>
  );
}

function cell(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "null");
}
