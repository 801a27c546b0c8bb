/** What served at any moment, who decided it on which evidence, and whether the record can be believed. */

import { Button } from "@chakra-ui/react";
import { useState } from "react";
import { Link } from "react-router-dom";

import * as api from "../api/endpoints.ts";
import { ApiError, type Problem, problemOf } from "../api/client.ts";
import type { Decision, Entry, Tenure } from "../api/types.ts";
import { duration, instant, number } from "../lib/format.ts";
import { places } from "../lib/places.ts";
import { usePaged } from "../lib/usePaged.ts";
import { usePoll } from "../lib/usePoll.ts";
import { Chip, Facts, SplitBar, splitWords, VerdictChip, When } from "../parts/basics.tsx";
import { CardTable } from "../parts/CardTable.tsx";
import { EndpointFrame } from "../parts/frame.tsx";
import { More, PagedItems } from "../parts/More.tsx";
import { Empty, Failed, Loaded } from "../parts/states.tsx";
import { Task } from "./Rollout.tsx";

export function History({ endpoint }: { readonly endpoint: api.Ref }) {
  const name = `${endpoint.environment}/${endpoint.name}`;
  return (
    <EndpointFrame endpoint={endpoint} here="History" title={<h1>History of {name}</h1>}>
      <div className="sides">
        <div className="stack">
          <Tenures endpoint={endpoint} />
          <Decisions endpoint={endpoint} />
        </div>
        <div className="stack">
          <AsOf endpoint={endpoint} />
          <Audit endpoint={endpoint} />
        </div>
      </div>
      <Log endpoint={endpoint} />
    </EndpointFrame>
  );
}

/** `2026-11-28T14:03`, in the zone of the browser, as the field for it takes it. */
export function fieldOf(at: Date): string {
  const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16);
}

function AsOf({ endpoint }: { readonly endpoint: api.Ref }) {
  const [typed, setTyped] = useState(() => fieldOf(new Date()));
  const moment = instant(typed);
  return (
    <section className="card stack tight" aria-labelledby="as-of">
      <h2 id="as-of">What served at</h2>
      <input type="datetime-local" aria-label="Moment, in your time zone" value={typed} onChange={(event) => setTyped(event.target.value)} />
      {moment ? <Then endpoint={endpoint} moment={moment.toISOString()} /> : <p className="muted">Choose a moment.</p>}
    </section>
  );
}

function Then({ endpoint, moment }: { readonly endpoint: api.Ref; readonly moment: string }) {
  const polled = usePoll(`as-of ${endpoint.environment}/${endpoint.name} ${moment}`, (signal) => api.asOf(endpoint, moment, signal));
  return (
    <Loaded polled={polled} what="what served then">
      {(then) => (
        <>
          {then.traffic.length > 0 ? <SplitBar traffic={then.traffic} /> : null}
          <Facts
            items={[
              ["Served", then.current ? <span className="mono">{then.current.id}</span> : "nothing yet"],
              ["Traffic", splitWords(then.traffic)],
              ["Approved by", then.approved_by],
              ["Rollout", then.rollout ? <Link to={places.rollout(endpoint, then.rollout.id)}>{then.rollout.phase} of {then.rollout.candidate}</Link> : "none"],
              ["Ledger entry", number(then.seq)],
              ["Audit", then.audit],
            ]}
          />
        </>
      )}
    </Loaded>
  );
}

function Audit({ endpoint }: { readonly endpoint: api.Ref }) {
  const polled = usePoll(`audit ${endpoint.environment}/${endpoint.name}`, (signal) => api.audit(endpoint, signal));
  const [verified, setVerified] = useState<{ until: number; head: number; busy: boolean }>();
  const [problem, setProblem] = useState<Problem>();
  const verify = async () => {
    setProblem(undefined);
    try {
      let after: number | null = 0;
      while (after !== null) {
        const page = await api.verify(endpoint, after);
        setVerified({ until: page.verified_until, head: page.head, busy: page.next !== null });
        after = page.next;
      }
    } catch (error) {
      setProblem(error instanceof ApiError ? error.problem : problemOf(0, { detail: String(error) }));
      setVerified((before) => (before ? { ...before, busy: false } : before));
    }
  };
  return (
    <section className="card stack tight" aria-labelledby="audit">
      <h2 id="audit">Audit</h2>
      <Loaded polled={polled} what="the audit status">
        {(audit) => (
          <>
            <p>
              <Chip tone={audit.agrees === null ? "gray" : audit.agrees ? "green" : "red"}>
                {audit.agrees === null ? "no outside note to compare with" : audit.agrees ? "agrees with the plane's note" : "does not agree with the plane's note"}
              </Chip>
            </p>
            <Facts
              items={[
                ["Entries", number(audit.entries)],
                ["Head", <span className="mono">{audit.head}</span>],
                ["Noted outside", <span className="mono">{audit.noted ?? "–"}</span>],
              ]}
            />
            {audit.detail ? <p>{audit.detail}</p> : null}
          </>
        )}
      </Loaded>
      <div className="row">
        <Button size="sm" variant="outline" disabled={verified?.busy === true} onClick={() => void verify()}>
          Verify the chain
        </Button>
        {verified ? (
          <span role="status">
            {number(verified.until)} of {number(verified.head)} entries{verified.busy ? "…" : problem ? "" : " hold"}
          </span>
        ) : null}
      </div>
      {problem ? <Failed problem={problem} /> : null}
    </section>
  );
}

function Tenures({ endpoint }: { readonly endpoint: api.Ref }) {
  const paged = usePaged<Tenure>(`history ${endpoint.environment}/${endpoint.name}`, (before, signal) =>
    api.tenures(endpoint, { limit: 20, before }, signal),
  );
  return (
    <section className="card" aria-labelledby="tenures">
      <h2 id="tenures">What served, and when</h2>
      <PagedItems
        paged={paged}
        what="history"
        empty={<Empty title="Nothing has served here yet" />}
      >
        {(items) => (
          <CardTable label="What served, and when" columns={["Release", "From", "Until", "For", "Ended by"]}>
            {items.map((tenure) => (
              <tr key={tenure.seq} role="row">
                <td role="cell" data-label="Release">
                  <span>
                    {tenure.rollout ? <Link to={places.rollout(endpoint, tenure.rollout)}>{tenure.model}</Link> : tenure.model}{" "}
                    <span className="mono">{tenure.release}</span>
                  </span>
                </td>
                <td role="cell" data-label="From">
                  <When at={tenure.since} />
                </td>
                <td role="cell" data-label="Until">
                  {tenure.until ? <When at={tenure.until} /> : "now"}
                </td>
                <td role="cell" data-label="For" className="num">
                  {lasted(tenure)}
                </td>
                <td role="cell" data-label="Ended by">
                  {tenure.ended_by}
                </td>
              </tr>
            ))}
          </CardTable>
        )}
      </PagedItems>
    </section>
  );
}

function lasted({ since, until }: Tenure): string {
  const from = instant(since);
  const to = until ? instant(until) : new Date();
  return from && to ? duration((to.getTime() - from.getTime()) / 1000) : "–";
}

const KIND = { promoted: "green", "rolled-back": "red", rejected: "amber" } as const;

function Decisions({ endpoint }: { readonly endpoint: api.Ref }) {
  const paged = usePaged<Decision>(`decisions ${endpoint.environment}/${endpoint.name}`, (before, signal) =>
    api.decisions(endpoint, { limit: 20, before }, signal),
  );
  return (
    <section className="card stack tight" aria-labelledby="decisions">
      <h2 id="decisions">Decision records</h2>
      <PagedItems
        paged={paged}
        what="decisions"
        empty={<p className="muted">Nothing has been decided here yet.</p>}
      >
        {(items) => (
          <ul className="plain stack tight">
            {items.map((decision) => (
              <li key={decision.seq}>
                <details>
                  <summary>
                    <When at={decision.at} /> <Chip tone={KIND[decision.kind] ?? "gray"}>{decision.kind.replace("-", " ")}</Chip>{" "}
                    <span className="mono">{decision.release}</span> by {decision.by || "automation"}
                  </summary>
                  <Record endpoint={endpoint} decision={decision} />
                </details>
              </li>
            ))}
          </ul>
        )}
      </PagedItems>
    </section>
  );
}

function Record({ endpoint, decision }: { readonly endpoint: api.Ref; readonly decision: Decision }) {
  return (
    <div className="stack tight">
      {decision.cause ? <p>{decision.cause}</p> : null}
      <Facts
        items={[
          ["Rollout", decision.rollout ? <Link to={places.rollout(endpoint, decision.rollout)}>{decision.rollout}</Link> : null],
          ["Approved by", decision.approved_by],
          ["Manifest", <span className="mono">{decision.manifest_digest ?? "–"}</span>],
          ["Artifact", <span className="mono">{decision.artifact_digest ?? "–"}</span>],
          ["Runtime", <span className="mono">{decision.runtime_digest ?? "–"}</span>],
          ["Code", <span className="mono">{decision.code_version ?? "–"}</span>],
          ["Ledger entry", `${decision.seq}`],
          ["Hash", <span className="mono">{decision.hash}</span>],
        ]}
      />
      {decision.evidence.length > 0 ? (
        <ul className="plain stack tight">
          {decision.evidence.map((gate) => (
            <li key={gate.gate}>
              <VerdictChip verdict={gate.verdict} /> {gate.rule}: {number(gate.value)} against {number(gate.threshold)} from {number(gate.samples)} samples
            </li>
          ))}
        </ul>
      ) : null}
    </div>
  );
}

function Log({ endpoint }: { readonly endpoint: api.Ref }) {
  const [open, setOpen] = useState(false);
  return (
    <details className="card" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <strong>The ledger, entry by entry</strong>
      </summary>
      {open ? <Entries endpoint={endpoint} /> : null}
    </details>
  );
}

function Entries({ endpoint }: { readonly endpoint: api.Ref }) {
  const paged = usePaged<Entry>(`entries ${endpoint.environment}/${endpoint.name}`, (before, signal) =>
    api.entries(endpoint, { limit: 100, before }, signal),
  );
  return (
    <Loaded polled={paged.first} what="entries">
      {() => (
        <>
          <CardTable label="Ledger entries" columns={["Entry", "At", "What", "By"]}>
            {paged.items.map((entry) => (
              <tr key={entry.seq} role="row">
                <td role="cell" data-label="Entry" className="num">
                  {entry.seq}
                </td>
                <td role="cell" data-label="At">
                  <When at={entry.at} />
                </td>
                <td role="cell" data-label="What">
                  <span>
                    <Chip tone="gray">{entry.type}</Chip> {entry.summary}
                  </span>
                </td>
                <td role="cell" data-label="By">
                  <Task origin={entry.origin} />
                </td>
              </tr>
            ))}
          </CardTable>
          {paged.items.length === 0 ? <Empty title="Nothing is written yet" /> : null}
          <More paged={paged} />
        </>
      )}
    </Loaded>
  );
}
