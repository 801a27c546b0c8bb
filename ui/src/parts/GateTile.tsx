/** One gate: what was measured against which limit, how sure that is, and when it can be decided. */

import { useMemo, useState } from "react";

import * as api from "../api/endpoints.ts";
import type { Gate, Look } from "../api/types.ts";
import { duration, number, UNKNOWN } from "../lib/format.ts";
import { place } from "../lib/intervals.ts";
import { usePoll } from "../lib/usePoll.ts";
import { Chip, Facts, Notice, VerdictChip, verdictTone, When } from "./basics.tsx";
import { Chart } from "./Chart.tsx";
import { Loaded } from "./states.tsx";

const LOOKS = 200;

function span(gate: Pick<Gate, "interval">): string {
  if (!gate.interval) return UNKNOWN;
  const [low, high] = gate.interval;
  return `${low === null ? "−∞" : number(low)} … ${high === null ? "+∞" : number(high)}`;
}

export function Gauge({ gate }: { readonly gate: Gate }) {
  const placed = place(gate.margin, gate.interval);
  if (!placed) return <p className="muted">Nothing measured yet.</p>;
  const at = (share: number) => `${(share * 100).toFixed(2)}%`;
  const words = `Margin ${number(gate.margin)}, interval ${span(gate)}; the threshold is at 0, and what is left of it is beyond the limit`;
  return (
    <div className={`gauge tone-${verdictTone(gate.verdict)}`} role="img" aria-label={words} title={words}>
      <span className="axis" />
      <span className="beyond" style={{ width: at(placed.threshold) }} />
      <span className="interval" style={{ left: at(placed.low), width: at(Math.max(0, placed.high - placed.low)) }} />
      <span className="limit" style={{ left: at(placed.threshold) }} />
      {placed.margin === null ? null : <span className="point" style={{ left: at(placed.margin) }} />}
    </div>
  );
}

export function GateTile({ gate, series }: { readonly gate: Gate; readonly series?: { readonly endpoint: api.Ref; readonly rollout: string } }) {
  const [open, setOpen] = useState(false);
  const undecided = gate.verdict === "inconclusive" || gate.verdict === "error";
  return (
    <article className="card stack tight" aria-label={`Gate ${gate.gate}`}>
      <div className="row between">
        <h3>{gate.gate}</h3>
        <span className="row tight">
          {gate.advisory ? <Chip tone="gray">advisory</Chip> : null}
          <VerdictChip verdict={gate.verdict} />
        </span>
      </div>
      <p className="muted">{gate.rule}</p>
      <Gauge gate={gate} />
      <Facts
        items={[
          ["Observed", <span className="num">{number(gate.value)}{gate.baseline === null ? "" : ` against ${number(gate.baseline)}`}</span>],
          ["Threshold", <span className="num">{number(gate.threshold)}</span>],
          ["Margin", <span className="num">{gate.margin === null ? UNKNOWN : number(gate.margin)}{gate.interval ? ` in ${span(gate)}` : ""}</span>],
          ["Samples", <span className="num">{number(gate.samples)}{gate.baseline_samples ? ` beside ${number(gate.baseline_samples)}` : ""}</span>],
          ["Alpha", <span className="num">{gate.alpha === null ? "one look, none spent" : number(gate.alpha)}{gate.alpha_left === null ? "" : `, ${number(gate.alpha_left)} left`}</span>],
          ...(undecided
            ? ([["Can be decided", gate.decidable_in_s === null ? (gate.rows_that_decide === null ? UNKNOWN : `with ${number(gate.rows_that_decide)} rows`) : `in about ${duration(gate.decidable_in_s)}`]] as const)
            : []),
          ["Window", <span><When at={gate.since} /> – <When at={gate.until} /></span>],
        ]}
      />
      {gate.broken ? (
        <Notice tone="purple">
          <strong>The measurement broke;</strong> that says nothing of the release. {gate.broken}
        </Notice>
      ) : null}
      {gate.why_not_yet ? (
        <Notice tone="amber">
          <strong>Why not yet:</strong> {gate.why_not_yet}
        </Notice>
      ) : null}
      {gate.excused ? <Notice tone="blue">Not held against the release: {gate.excused}</Notice> : null}
      {gate.reason && gate.reason !== gate.why_not_yet && gate.reason !== gate.broken ? <p>{gate.reason}</p> : null}
      {series ? (
        <details onToggle={(event) => setOpen(event.currentTarget.open)}>
          <summary>Every look at it</summary>
          {open ? <Looks {...series} gate={gate.gate} /> : null}
        </details>
      ) : null}
    </article>
  );
}

function Looks({ endpoint, rollout, gate }: { readonly endpoint: api.Ref; readonly rollout: string; readonly gate: string }) {
  const polled = usePoll(`looks ${endpoint.environment}/${endpoint.name} ${rollout} ${gate}`, (signal) =>
    api.looks(endpoint, { rollout, gate, limit: LOOKS }, signal),
  );
  return (
    <Loaded polled={polled} what="looks">
      {({ items }) => (items.length === 0 ? <p className="muted">Nobody has looked yet.</p> : <LookSeries looks={items} />)}
    </Loaded>
  );
}

const LINES = [
  { label: "upper", colour: "blue", dashed: true },
  { label: "margin", colour: "blue" },
  { label: "lower", colour: "blue", dashed: true },
  { label: "threshold", colour: "red" },
] as const;
const BAND = [0, 2] as const;
const ZERO = [0] as const;

function LookSeries({ looks }: { readonly looks: readonly Look[] }) {
  const sorted = useMemo(() => [...looks].sort((a, b) => Date.parse(a.at) - Date.parse(b.at)), [looks]);
  const times = useMemo(() => sorted.map((look) => Date.parse(look.at) / 1000), [sorted]);
  const rows = useMemo(
    () => [sorted.map((look) => look.interval?.[1] ?? null), sorted.map((look) => look.margin), sorted.map((look) => look.interval?.[0] ?? null), sorted.map(() => 0)],
    [sorted],
  );
  return (
    <div className="stack tight">
      <Chart title="Margin, look by look" times={times} rows={rows} lines={LINES} band={BAND} mustShow={ZERO} format={number} height={150} />
      <div className="scroll" role="region" aria-label="Looks" tabIndex={0} style={{ maxHeight: 260, overflowY: "auto" }}>
        <table>
          <thead>
            <tr>
              <th scope="col">Look</th>
              <th scope="col">Verdict</th>
              <th scope="col" className="right">Value</th>
              <th scope="col" className="right">Margin</th>
              <th scope="col" className="right">Interval</th>
              <th scope="col" className="right">Samples</th>
            </tr>
          </thead>
          <tbody>
            {[...sorted].reverse().map((look) => (
              <tr key={look.at}>
                <td><When at={look.at} /></td>
                <td><VerdictChip verdict={look.verdict} /></td>
                <td className="right num">{number(look.value)}</td>
                <td className="right num">{number(look.margin)}</td>
                <td className="right num">{span(look)}</td>
                <td className="right num">{number(look.samples)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
