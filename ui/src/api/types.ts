/**
 * What the API answers: `airflow_provider_mlpipex/plugins/` holds the same shapes as pydantic models.
 *
 * Times are ISO 8601, rates are shares from 0 to 1, latencies milliseconds. `null`: not known, which is no fault.
 */

export type Verdict = "pass" | "fail" | "inconclusive" | "error";
export type Phase = "opened" | "review" | "shadow" | "canary" | "watching";
export type LampColour = "green" | "amber" | "red" | "none";
export type HealthState = "ok" | "unhealthy" | "unmeasured" | "quiet" | "nothing";

/** One page of a list; ask again with `before: next`. */
export interface Page<Item> {
  items: Item[];
  next: number | null;
}

export interface Me {
  user: string;
  may_write: boolean;
  why_not: string | null;
  rollback_dag: string;
  version: string;
}

export interface Share {
  release: string;
  share: number;
  role: "current" | "candidate" | "control";
}

export interface Health {
  state: HealthState;
  cause: string | null;
  since: string | null;
  requests: number | null;
  error_rate: number | null;
  p95_ms: number | null;
  window_s: number;
}

export interface HeldBack {
  sentence: string;
  by: string;
  since: string;
  cause: string;
  release: string | null;
}

export interface Doubt {
  since: string;
  cause: string;
  release: string;
  gates: string[];
}

export interface FleetRow {
  endpoint: string;
  environment: string;
  name: string;
  team: string | null;
  release: string | null;
  model: string | null;
  since: string | null;
  traffic: Share[];
  mirror: { release: string; fraction: number } | null;
  health: Health;
  rollout: {
    id: string;
    candidate: string;
    phase: Phase;
    step: number | null;
    steps: number;
    since: string;
    on_hold: boolean;
    hold_cause: string | null;
  } | null;
  readiness: { lamp: LampColour; reason: string | null };
  doubt: Doubt | null;
  held_back: HeldBack | null;
  rollback_under_way: boolean;
  diverged: boolean;
  attention: string[];
  seq: number;
}

export interface Fleet {
  items: FleetRow[];
  total: number;
  offset: number;
  limit: number;
  as_of: string;
  plane: { reachable: boolean; why_not: string | null };
}

export interface Release {
  id: string;
  model: string;
  version: string;
  runtime: string;
  runtime_kind: string;
  runtime_digest: string;
  artifact_digest: string;
  dataset: string;
  dataset_digest: string;
  dataset_rows: number;
  features: string | null;
  code_version: string;
  metrics: Record<string, number | null>;
  run_id: string;
  on_plane: { state: string; restarts: number; detail: string } | null;
}

export interface Change {
  kind: string;
  what: string;
  before: string;
  after: string;
}

export interface Drill {
  seq: number;
  at: string;
  by: string;
  ok: boolean;
  from_release: string;
  to_release: string;
  /** Until the previous release had all requests; `null`: it never did. */
  back_ms: number | null;
  forth_ms: number | null;
  requests: number | null;
  failed_requests: number | null;
  detail: string;
}

export interface Readiness {
  lamp: LampColour;
  reason: string | null;
  checks: { name: string; ok: boolean | null; detail: string }[];
  last_drill: Drill | null;
}

export interface Endpoint {
  row: FleetRow;
  seq: number;
  address: string | null;
  owner: string;
  contact: string;
  current: Release | null;
  previous: Release | null;
  candidate: Release | null;
  rollback: {
    /** A release; `null`: nothing is left to undo. */
    takes: string | null;
    /** A release; `null`: nobody's traffic changes. */
    returns_to: string | null;
    /** A rollout that waits, and ends with it. */
    rejects: string | null;
    sentences: string[];
    possible: boolean;
    why_not: string | null;
    changes: Change[];
  };
  rollout: RolloutSummary | null;
  last_result: { rollout: string; ending: string; cause: string; at: string } | null;
  incident: { release: string; verdict: string; gates: string[]; cause: string; since: string } | null;
  doubt: Doubt | null;
  held_back: HeldBack | null;
  readiness: Readiness;
  plane_error: string | null;
  /** What the manifest allows; what the user may do at all is in {@link Me}. */
  may: { drill: boolean; why_not_drill: string | null };
}

export interface Origin {
  kind: string;
  user: string;
  dag_id: string;
  run_id: string;
  task_id: string;
  try_number: number;
  /** A path in Airflow's own UI. */
  href: string | null;
}

export interface Tenure {
  seq: number;
  release: string;
  model: string;
  runtime: string;
  rollout: string;
  since: string;
  until: string | null;
  ended_by: string;
}

export interface Entry {
  seq: number;
  at: string;
  type: string;
  subject: string | null;
  summary: string;
  origin: Origin;
  hash: string;
  event: Record<string, unknown>;
}

export interface AsOf {
  at: string;
  seq: number;
  current: Release | null;
  previous: Release | null;
  rollout: { id: string; candidate: string; phase: string } | null;
  traffic: Share[];
  approved_by: string | null;
  audit: string;
}

export interface RolloutSummary {
  id: string;
  candidate: string;
  model: string;
  opened_at: string;
  seq: number;
  phase: Phase | "ended";
  step: number | null;
  steps: number[];
  ending: string | null;
  ended_at: string | null;
  cause: string | null;
  on_hold: { cause: string; by: string; since: string } | null;
  origin: Origin;
}

export type StageState = "done" | "now" | "ahead" | "held" | "failed";

export interface Stage {
  stage: string;
  step: number | null;
  share: number | null;
  state: StageState;
  since: string | null;
  until: string | null;
  verdict: Verdict | null;
  task: Origin | null;
  gates: Gate[];
}

export type Interval = [number | null, number | null];

export interface Gate {
  gate: string;
  verdict: Verdict;
  advisory: boolean;
  rule: string;
  reason: string;
  source: string;
  metric: string;
  about: string | null;
  value: number | null;
  baseline: number | null;
  threshold: number | null;
  /** Signed distance to the threshold; negative: beyond it. */
  margin: number | null;
  /** Of the margin. */
  interval: Interval | null;
  samples: number;
  baseline_samples: number;
  since: string;
  until: string;
  alpha: number | null;
  alpha_left: number | null;
  decidable_in_s: number | null;
  rows_that_decide: number | null;
  why_not_yet: string | null;
  broken: string | null;
  excused: string | null;
}

export interface RolloutDetail {
  summary: RolloutSummary;
  release: Release;
  baseline: string | null;
  changes: Change[];
  stages: Stage[];
  review: { approved: boolean | null; by: string; note: string; automatic: string; at: string } | null;
  /** Why the stage under way is not measured right now. */
  trouble: string | null;
}

export interface Look {
  seq: number;
  at: string;
  verdict: Verdict;
  value: number | null;
  baseline: number | null;
  threshold: number | null;
  margin: number | null;
  interval: Interval | null;
  samples: number;
}

export interface Point {
  at: string;
  requests: number;
  errors: number;
  error_rate: number | null;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  complete: boolean;
}

export interface Series {
  since: string;
  until: string;
  step_s: number;
  releases: { release: string; role: "current" | "previous" | "candidate" | "other"; points: Point[] }[];
  events: { at: string; seq: number; type: string; summary: string }[];
  complete: boolean;
  detail: string;
}

export interface DriftSummary {
  seq: number;
  at: string;
  release: string;
  since: string;
  until: string;
  verdict: Verdict;
  reason: string;
  features: { column: string; psi: number | null; damage: number | null }[];
}

export interface Batch {
  id: string;
  seq: number | null;
  at: string | null;
  rows: number;
  answered: Record<string, number>;
  share: number | null;
  origin: Origin | null;
  digest: string | null;
}

export interface DriftEvent {
  summary: DriftSummary;
  facts: Record<string, unknown>;
  columns: Record<string, unknown>[];
  batches: Batch[];
}

export interface Rows {
  release: string;
  columns: string[];
  rows: Record<string, unknown>[];
  sampled: number;
  total: number;
  dropped_share: number;
}

export interface Alert {
  seq: number;
  at: string;
  title: string;
  body: string;
  severity: string;
  channel: string;
  facts: Record<string, string>;
  notified: string[];
  failures: string[];
  state: "delivered" | "owed" | "undelivered";
  tries: number;
}

export interface Decision {
  seq: number;
  at: string;
  kind: "promoted" | "rolled-back" | "rejected";
  rollout: string;
  release: string | null;
  by: string;
  cause: string;
  approved_by: string | null;
  evidence: Gate[];
  hash: string;
  manifest_digest: string | null;
  artifact_digest: string | null;
  runtime_digest: string | null;
  code_version: string | null;
}

export interface Audit {
  entries: number;
  head: string;
  noted: string | null;
  agrees: boolean | null;
  detail: string;
}

export interface Verified {
  verified_until: number;
  head: number;
  next: number | null;
  ok: true;
}

export interface RollbackAnswer {
  endpoint: string;
  current: string | null;
  previous: string | null;
  returned_from: string | null;
  done: string;
  confirmed: boolean;
  traffic: Share[];
  took_ms: number;
  acknowledged_ms: number | null;
  ended: Record<string, string>;
  held_back: string | null;
  notified: string[];
  not_notified: string[];
  seq: number;
  repeated: boolean;
}
