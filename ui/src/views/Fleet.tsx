/** Every endpoint, the worst first. */

import { Button } from "@chakra-ui/react";
import { useEffect, useState } from "react";
import { Link, useSearchParams } from "react-router-dom";

import * as api from "../api/endpoints.ts";
import type { FleetRow, Health } from "../api/types.ts";
import { milliseconds, number, percent } from "../lib/format.ts";
import { places } from "../lib/places.ts";
import { usePoll } from "../lib/usePoll.ts";
import { useTitle } from "../lib/useTitle.ts";
import { Chip, Lamp, Notice, SplitBar, type Tone, When } from "../parts/basics.tsx";
import { CardTable } from "../parts/CardTable.tsx";
import { Empty, Loaded } from "../parts/states.tsx";

const PAGE = 50;
const TYPING_MS = 250;
const SORTS = [
  ["worst", "worst first"],
  ["name", "name"],
  ["age", "newest release"],
  ["requests", "most requests"],
] as const;

export const HEALTH: Record<Health["state"], { tone: Tone; words: string }> = {
  ok: { tone: "green", words: "healthy" },
  unhealthy: { tone: "red", words: "unhealthy" },
  unmeasured: { tone: "amber", words: "not measured" },
  quiet: { tone: "gray", words: "no traffic" },
  nothing: { tone: "gray", words: "nothing released" },
};

export function HealthChip({ health }: { readonly health: Health }) {
  const { tone, words } = HEALTH[health.state] ?? HEALTH.unmeasured;
  return (
    <Chip tone={tone} title={health.cause ?? words}>
      {words}
    </Chip>
  );
}

function isMoving(row: FleetRow): boolean {
  return row.rollout !== null || row.rollback_under_way;
}

export function Fleet() {
  useTitle("Models");
  const [params, setParams] = useSearchParams();
  const asked = params.get("q") ?? "";
  const [typed, setTyped] = useState(asked);
  const sort = params.get("sort") ?? "worst";
  const attention = params.get("attention") === "true";
  const offset = Math.max(0, Number(params.get("offset") ?? 0) || 0);

  const change = (changes: Record<string, string>) =>
    setParams(
      (before) => {
        const after = new URLSearchParams(before);
        for (const [name, value] of Object.entries(changes)) {
          if (value) after.set(name, value);
          else after.delete(name);
        }
        return after;
      },
      { replace: true },
    );

  useEffect(() => {
    if (typed === asked) return undefined;
    const timer = setTimeout(() => change({ q: typed, offset: "" }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed, asked]);

  const query = { q: asked, sort, limit: PAGE, offset, ...(attention ? { attention } : {}) };
  const polled = usePoll(JSON.stringify(query), (signal) => api.fleet(query, signal), (fleet) => fleet.items.some(isMoving), true);

  return (
    <div className="stack">
      <div className="row between">
        <h1>Models</h1>
        <form className="row" role="search" onSubmit={(event) => event.preventDefault()}>
          <input
            type="search"
            aria-label="Search endpoints"
            placeholder="Search endpoint, model, team"
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
          />
          <label className="row tight">
            <span className="muted">Sort</span>
            <select value={sort} onChange={(event) => change({ sort: event.target.value, offset: "" })}>
              {SORTS.map(([value, words]) => (
                <option key={value} value={value}>
                  {words}
                </option>
              ))}
            </select>
          </label>
          <label className="row tight">
            <input
              type="checkbox"
              checked={attention}
              onChange={(event) => change({ attention: event.target.checked ? "true" : "", offset: "" })}
            />
            needs attention
          </label>
        </form>
      </div>
      <Loaded polled={polled} what="the fleet">
        {(fleet) => (
          <>
            {fleet.plane.reachable ? null : (
              <Notice tone="amber" role="status">
                <strong>The serving plane does not answer.</strong> {fleet.plane.why_not} What follows is what the ledger knows.
              </Notice>
            )}
            {fleet.items.length === 0 ? (
              asked || attention ? (
                <Empty title="No endpoint matches">Change the search, or show all.</Empty>
              ) : (
                <Empty title="Nothing is released yet">
                  An endpoint appears here once a rollout opens: run a release Dag, or `mlpipex init` at a terminal.
                </Empty>
              )
            ) : (
              <>
                <Rows rows={fleet.items} />
                <Paging offset={offset} total={fleet.total} shown={fleet.items.length} go={(to) => change({ offset: to ? String(to) : "" })} />
              </>
            )}
          </>
        )}
      </Loaded>
    </div>
  );
}

function Paging({ offset, total, shown, go }: { readonly offset: number; readonly total: number; readonly shown: number; readonly go: (offset: number) => void }) {
  return (
    <div className="row between">
      <span className="muted" role="status">
        {number(offset + 1)}–{number(offset + shown)} of {number(total)}
      </span>
      {total > PAGE ? (
        <div className="row">
          <Button size="sm" variant="outline" disabled={offset === 0} onClick={() => go(Math.max(0, offset - PAGE))}>
            Previous
          </Button>
          <Button size="sm" variant="outline" disabled={offset + shown >= total} onClick={() => go(offset + PAGE)}>
            Next
          </Button>
        </div>
      ) : null}
    </div>
  );
}

const COLUMNS = ["Endpoint", "Release", "Traffic", "Health", "Rollout", "Rollback"];

function Rows({ rows }: { readonly rows: readonly FleetRow[] }) {
  return (
    <CardTable label="Endpoints" columns={COLUMNS}>
      {rows.map((row) => (
        <Row key={row.endpoint} row={row} />
      ))}
    </CardTable>
  );
}

function Row({ row }: { readonly row: FleetRow }) {
  const { health, rollout } = row;
  return (
    <tr role="row" className={row.attention.length > 0 ? "pick hurts" : "pick"}>
      <td role="cell" data-label="Endpoint">
        <div>
          <Link to={places.endpoint(row)}>
            <strong>{row.endpoint}</strong>
          </Link>
          {row.team ? <div className="muted">{row.team}</div> : null}
          {row.attention.map((sentence) => (
            <div key={sentence}>{sentence}</div>
          ))}
        </div>
      </td>
      <td role="cell" data-label="Release">
        <div>
          <span className="mono" title={row.release ?? ""}>
            {row.model ?? "nothing yet"}
          </span>
          {row.since ? (
            <div className="muted">
              <When at={row.since} relative />
            </div>
          ) : null}
        </div>
      </td>
      <td role="cell" data-label="Traffic" style={{ minWidth: 130 }}>
        <div>
          <SplitBar traffic={row.traffic} />
          <div className="muted num">
            {row.traffic.length > 1 ? row.traffic.map(({ share }) => percent(share)).join(" · ") : ""}
            {row.mirror ? ` mirrors ${percent(row.mirror.fraction)}` : ""}
          </div>
        </div>
      </td>
      <td role="cell" data-label="Health">
        <div>
          <HealthChip health={health} />
          {health.requests ? (
            <div className="muted num">
              {percent(health.error_rate)} errors · p95 {milliseconds(health.p95_ms)}
            </div>
          ) : null}
        </div>
      </td>
      <td role="cell" data-label="Rollout">
        {rollout || row.held_back || row.doubt || row.rollback_under_way ? (
          <div>
            {rollout ? (
              <>
                <Link to={places.rollout(row, rollout.id)}>{stageWords(rollout)}</Link>
                <div className="muted">
                  began <When at={rollout.since} relative />
                </div>
              </>
            ) : null}
            <div className="row tight">
              {rollout?.on_hold ? (
                <Chip tone="amber" title={rollout.hold_cause ?? ""}>
                  rollout on hold
                </Chip>
              ) : null}
              {row.held_back ? (
                <Chip tone="amber" title={row.held_back.sentence}>
                  on hold
                </Chip>
              ) : null}
              {row.doubt ? (
                <Chip tone="purple" title={row.doubt.cause}>
                  promotion in doubt
                </Chip>
              ) : null}
              {row.rollback_under_way ? <Chip tone="red">rolling back</Chip> : null}
            </div>
          </div>
        ) : null}
      </td>
      <td role="cell" data-label="Rollback">
        <Lamp lamp={row.readiness.lamp} reason={row.readiness.reason} short />
      </td>
    </tr>
  );
}

export function stageWords({ phase, step, steps }: { phase: string; step: number | null; steps: number }): string {
  return phase === "canary" && step !== null ? `canary, step ${step + 1} of ${steps}` : phase;
}
