/** Answers of the API for tests and for `npm run dev`: an ordinary fleet, with everything that may be unknown left so. */

import type * as T from "../src/api/types.ts";

export const NOW = Date.parse("2026-11-28T14:03:00Z");
export const CURRENT = "2.1.0-rt3.0.0-1a2b3c4d";
export const PREVIOUS = "2.0.0-rt3.0.0-9f8e7d6c";
export const CANDIDATE = "2.2.0-rt3.1.0-5e6f7a8b";
/** As Airflow names a run that was scheduled in a zone east of Greenwich, by a team that likes slashes. */
export const RUN = "scheduled__2026-11-28T13:40:00+00:00/eu";

export const ago = (seconds: number) => new Date(NOW - seconds * 1000).toISOString();

export function row(changes: Partial<T.FleetRow> = {}): T.FleetRow {
  return {
    endpoint: "production/fraud-scorer",
    environment: "production",
    name: "fraud-scorer",
    team: "payments",
    release: CURRENT,
    model: "fraud-scorer 2.1.0",
    since: ago(86_400 * 3),
    traffic: [{ release: CURRENT, share: 1, role: "current" }],
    mirror: null,
    health: { state: "ok", cause: null, since: null, requests: 18_250, error_rate: 0.0012, p95_ms: 41.3, window_s: 600 },
    rollout: null,
    readiness: { lamp: "green", reason: null },
    doubt: null,
    held_back: null,
    rollback_under_way: false,
    diverged: false,
    attention: [],
    seq: 412,
    ...changes,
  };
}

/** What a broken measurement, a plane that is away and a first release leave behind. */
export const UNKNOWN_ROW = row({
  endpoint: "staging/churn",
  environment: "staging",
  name: "churn",
  team: null,
  release: null,
  model: null,
  since: null,
  traffic: [],
  health: { state: "unmeasured", cause: "the plane does not answer", since: null, requests: null, error_rate: null, p95_ms: null, window_s: 600 },
  readiness: { lamp: "none", reason: null },
});

export function release(id: string, version: string, changes: Partial<T.Release> = {}): T.Release {
  return {
    id,
    model: "fraud-scorer",
    version,
    runtime: "3.0.0",
    runtime_kind: "sklearn",
    runtime_digest: `sha256:${"7".repeat(64)}`,
    artifact_digest: `sha256:${"a1".repeat(32)}`,
    dataset: "payments-2026-11",
    dataset_digest: `sha256:${"d4".repeat(32)}`,
    dataset_rows: 1_204_551,
    features: "fraud_v3",
    code_version: "0123abc",
    metrics: { "evaluation.roc_auc": 0.9412, "evaluation.log_loss": null },
    run_id: RUN,
    on_plane: { state: "ready", restarts: 0, detail: "" },
    ...changes,
  };
}

export const ORIGIN: T.Origin = {
  kind: "task",
  user: "",
  dag_id: "release__fraud_scorer",
  run_id: RUN,
  task_id: "production.canary_50_watch",
  try_number: 1,
  href: `/dags/release__fraud_scorer/runs/${encodeURIComponent(RUN)}/tasks/production.canary_50_watch`,
};

export function gate(changes: Partial<T.Gate> = {}): T.Gate {
  return {
    gate: "error rate",
    verdict: "inconclusive",
    advisory: false,
    rule: "canary.error_rate within 0.5% of the control",
    reason: "",
    source: "canary",
    metric: "error_rate",
    about: null,
    value: 0.0031,
    baseline: 0.0012,
    threshold: 0.0062,
    margin: 0.0031,
    interval: [-0.0011, 0.0068],
    samples: 2_840,
    baseline_samples: 2_791,
    since: ago(900),
    until: ago(5),
    alpha: 0.01,
    alpha_left: 0.03,
    decidable_in_s: 410,
    rows_that_decide: 5_300,
    why_not_yet: "the interval still holds the threshold: about 2,460 more requests decide, if it stays as it is",
    broken: null,
    excused: null,
    ...changes,
  };
}

export const SUMMARY: T.RolloutSummary = {
  id: RUN,
  candidate: CANDIDATE,
  model: "fraud-scorer 2.2.0",
  opened_at: ago(1_500),
  seq: 398,
  phase: "canary",
  step: 1,
  steps: [0.05, 0.5, 1],
  ending: null,
  ended_at: null,
  cause: null,
  on_hold: null,
  origin: ORIGIN,
};

const TRAFFIC: T.Share[] = [
  { release: CURRENT, share: 0.5, role: "current" },
  { release: CANDIDATE, share: 0.5, role: "candidate" },
];

export const HURT = row({
  traffic: TRAFFIC,
  rollout: { id: RUN, candidate: CANDIDATE, phase: "canary", step: 1, steps: 3, since: ago(900), on_hold: false, hold_cause: null },
  health: { state: "unhealthy", cause: "error rate 4.1% against a limit of 1%", since: ago(240), requests: 18_250, error_rate: 0.041, p95_ms: 212, window_s: 600 },
  readiness: { lamp: "amber", reason: "the previous release was restarted twice within the hour" },
  attention: ["error rate 4.1% against a limit of 1% for 4 minutes"],
});

export const DRILL: T.Drill = { seq: 201, at: ago(86_400 * 12), by: "dana", ok: true, from_release: CURRENT, to_release: PREVIOUS, back_ms: 212, forth_ms: 240, requests: 1_832, failed_requests: 0, detail: "" };

const READINESS: T.Readiness = {
  lamp: "amber",
  reason: "the previous release was restarted twice within the hour",
  checks: [
    { name: "release to return to", ok: true, detail: `${PREVIOUS} is ready` },
    { name: "serving plane", ok: true, detail: "" },
  ],
  last_drill: DRILL,
};

export const ENDPOINT: T.Endpoint = {
  row: HURT,
  seq: 412,
  address: "http://127.0.0.1:8088/endpoints/production/fraud-scorer",
  owner: "payments",
  contact: "#payments-on-call",
  current: release(CURRENT, "2.1.0"),
  previous: release(PREVIOUS, "2.0.0"),
  candidate: release(CANDIDATE, "2.2.0", { on_plane: { state: "ready", restarts: 2, detail: "" } }),
  rollback: {
    takes: CANDIDATE,
    returns_to: CURRENT,
    rejects: null,
    sentences: [`production/fraud-scorer serves ${CURRENT}`, `all traffic returns to ${CURRENT}, and ${CANDIDATE} gets none`],
    possible: true,
    why_not: null,
    changes: [
      { kind: "model", what: "version", before: "2.2.0", after: "2.1.0" },
      { kind: "runtime", what: "version", before: "3.1.0", after: "3.0.0" },
      { kind: "gate-tightened", what: "p95 latency", before: "max 150ms", after: "max 120ms" },
    ],
  },
  rollout: SUMMARY,
  doubt: null,
  held_back: null,
  last_result: { rollout: "manual__2026-11-20", ending: "promoted", cause: "watch ended pass", at: ago(86_400 * 3) },
  incident: null,
  readiness: READINESS,
  plane_error: null,
  may: { drill: true, why_not_drill: null },
};

export const DETAIL: T.RolloutDetail = {
  summary: SUMMARY,
  trouble: null,
  release: release(CANDIDATE, "2.2.0"),
  baseline: CURRENT,
  changes: [
    { kind: "model", what: "version", before: "2.1.0", after: "2.2.0" },
    { kind: "runtime", what: "version", before: "3.0.0", after: "3.1.0" },
    { kind: "gate-loosened", what: "p95 latency", before: "max 120ms", after: "max 150ms" },
  ],
  review: { approved: true, by: "dana", note: "quarterly retraining", automatic: "", at: ago(1_400) },
  stages: [
    { stage: "gates", step: null, share: null, state: "done", since: ago(1_500), until: ago(1_450), verdict: "pass", task: { ...ORIGIN, task_id: "production.gates" }, gates: [gate({ gate: "ROC AUC", verdict: "pass", rule: "evaluation.roc_auc within 0.5% of the baseline", value: 0.9412, baseline: 0.9403, threshold: 0.9356, margin: 0.0056, interval: [0.0021, 0.0089], why_not_yet: null, decidable_in_s: null, alpha: null, alpha_left: null, source: "evaluation" })] },
    { stage: "review", step: null, share: null, state: "done", since: ago(1_450), until: ago(1_400), verdict: null, task: { ...ORIGIN, task_id: "production.review" }, gates: [] },
    { stage: "canary", step: 0, share: 0.05, state: "done", since: ago(1_400), until: ago(900), verdict: "pass", task: ORIGIN, gates: [] },
    {
      stage: "canary",
      step: 1,
      share: 0.5,
      state: "now",
      since: ago(900),
      until: null,
      verdict: "inconclusive",
      task: ORIGIN,
      gates: [
        gate(),
        gate({ gate: "p95 latency", verdict: "fail", rule: "canary.p95_ms max 150ms", value: 212, baseline: 41, threshold: 150, margin: -62, interval: [-80, -41], why_not_yet: null, decidable_in_s: null, rows_that_decide: null, reason: "212 ms is over the limit of 150 ms" }),
        gate({ gate: "score distribution", verdict: "error", advisory: true, rule: "canary.ks max 0.1", value: null, baseline: null, threshold: 0.1, margin: null, interval: null, samples: 0, why_not_yet: null, decidable_in_s: null, rows_that_decide: null, broken: "3.1% of predictions were dropped: over the limit of 1%" }),
      ],
    },
    { stage: "canary", step: 2, share: 1, state: "ahead", since: null, until: null, verdict: null, task: null, gates: [] },
    { stage: "watch", step: null, share: null, state: "ahead", since: null, until: null, verdict: null, task: null, gates: [] },
  ],
};

export function series(): T.Series {
  const points = (share: number, rate: number, p95: number): T.Point[] =>
    Array.from({ length: 60 }, (_, at) => {
      const begun = share === 1 || at > 38;
      const requests = begun ? Math.round((300 + 60 * Math.sin(at / 6)) * (share === 1 && at > 38 ? 0.5 : share)) : 0;
      const errors = Math.round(requests * (rate + (share < 1 && at > 50 ? 0.04 : 0)));
      return {
        at: ago((60 - at) * 60),
        requests,
        errors,
        error_rate: requests > 0 ? errors / requests : null,
        p50_ms: requests > 0 ? p95 / 2 : null,
        p95_ms: requests > 0 ? p95 + 4 * Math.sin(at / 3) : null,
        p99_ms: requests > 0 ? p95 * 1.4 : null,
        complete: at !== 20,
      };
    });
  return {
    since: ago(3_600),
    until: ago(0),
    step_s: 60,
    releases: [
      { release: CURRENT, role: "current", points: points(1, 0.0012, 41) },
      { release: CANDIDATE, role: "candidate", points: points(0.5, 0.004, 96) },
    ],
    events: [
      { at: ago(1_500), seq: 398, type: "rollout-opened", summary: `rollout of ${CANDIDATE} opened` },
      { at: ago(900), seq: 408, type: "canary-stepped", summary: "canary step 2 of 3: 50%" },
    ],
    complete: false,
    detail: "one minute was lost when the plane restarted",
  };
}

export const LOOKS: T.Look[] = Array.from({ length: 30 }, (_, at) => {
  const width = 0.02 / Math.sqrt(at + 1);
  const margin = 0.0031 + 0.002 * Math.sin(at / 2);
  return { seq: 400 + at, at: ago(900 - at * 30), verdict: "inconclusive", value: 0.0031, baseline: 0.0012, threshold: 0.0062, margin, interval: at === 0 ? null : [margin - width, margin + width], samples: 90 * at };
});

export const DRIFT: T.DriftSummary = {
  seq: 377,
  at: ago(7_200),
  release: CURRENT,
  since: ago(93_600),
  until: ago(7_200),
  verdict: "fail",
  reason: "distance drifts: PSI 0.41 against 0.2, and moves scores by 0.38 standard deviations",
  features: [
    { column: "distance", psi: 0.41, damage: 0.38 },
    { column: "carrier", psi: 0.11, damage: null },
  ],
};

export const BATCH: T.Batch = { id: "in-kilometres/2026-11-27", seq: 371, at: ago(30_000), rows: 2_000, answered: { [CURRENT]: 1_998 }, share: 0.93, origin: { ...ORIGIN, dag_id: "score_nightly", task_id: "score" }, digest: `sha256:${"b7".repeat(32)}` };

export const DRIFT_EVENT: T.DriftEvent = {
  summary: DRIFT,
  facts: {
    ranking: [
      { column: "distance", verdict: "fail", psi: 0.41, influence: 0.3, damage: 0.38, score_shift: 0.021, reason: "" },
      { column: "carrier", verdict: "fail", psi: 0.11, influence: null, damage: null, reason: "the reference is older than effects" },
    ],
    batches: [
      { batch: "", rows: 120, shares: { distance: 0.02 } },
      { batch: BATCH.id, rows: 2_000, shares: { distance: 0.93, carrier: 0.4 }, faults: [{ batch: BATCH.id, column: "distance", kind: "values", reason: "distance is not distributed as in the other batches" }], requests: ["r-1"] },
    ],
  },
  columns: [
    { column: "distance", kind: "numeric", verdict: "fail", reason: "PSI 0.41 against a threshold of 0.2", rows: 2_300, measures: [{ measure: "psi", value: 0.41 }], unusable: 0, shifts: [{ group: "(0, 400]", reference_share: 0.31, share: 0.11 }, { group: "(400, 900]", reference_share: 0.44, share: 0.32 }, { group: "(900, 1600]", reference_share: 0.2, share: 0.33 }, { group: "above 1600", reference_share: 0.05, share: 0.24 }] },
    { column: "origin", kind: "categorical", verdict: "error", reason: "41% of its values cannot be read", measures: [], unusable: 0.41, shifts: [{ group: "unusable", reference_share: 0, share: 0.41 }] },
  ],
  batches: [BATCH],
};

export const FLEET: T.Fleet = {
  items: [
    HURT,
    row({ endpoint: "production/pricing", name: "pricing", team: "search", model: "pricing 1.4.2", held_back: { sentence: "Nothing of the lineage of 1.5.0 is released here until somebody resumes: dana took it back 2 hours ago, wrong currency.", by: "dana", since: ago(7_200), cause: "wrong currency", release: "1.5.0" }, attention: ["on hold since 2 hours: wrong currency"], readiness: { lamp: "red", reason: "the previous release has stopped on the plane" } }),
    row({ endpoint: "production/flight-delay", name: "flight-delay", team: null, model: "flight-delay 1.1.0", doubt: { since: ago(86_400), cause: "labels of last week: accuracy 0.81 against 0.85", release: "1.1.0", gates: ["accuracy"] }, attention: ["promotion in doubt since yesterday"], health: { state: "quiet", cause: "no request in 10 minutes", since: null, requests: 0, error_rate: null, p95_ms: null, window_s: 600 } }),
    row({ endpoint: "production/ranking", name: "ranking", team: "search", model: "ranking 8.0.1" }),
    UNKNOWN_ROW,
  ],
  total: 128,
  offset: 0,
  limit: 50,
  as_of: ago(0),
  plane: { reachable: true, why_not: null },
};

export const ME: T.Me = { user: "dana", may_write: true, why_not: null, rollback_dag: "rollback", version: "0.1.0" };
export const VIEWER: T.Me = { ...ME, user: "vic", may_write: false, why_not: "You may look; a rollback asks for the right to run Dag rollback." };

export const ANSWER: T.RollbackAnswer = {
  endpoint: "production/fraud-scorer",
  current: CURRENT,
  previous: PREVIOUS,
  returned_from: CANDIDATE,
  done: `production/fraud-scorer serves ${CURRENT} instead of ${CANDIDATE}`,
  confirmed: true,
  traffic: [{ release: CURRENT, share: 1, role: "current" }],
  took_ms: 184.2,
  acknowledged_ms: 61,
  ended: { [RUN]: "rolled-back" },
  held_back: "Nothing of the lineage of 2.2.0 is released here until somebody resumes.",
  notified: ["on-call"],
  not_notified: [],
  seq: 415,
  repeated: false,
};

const page = <Item>(items: Item[]): T.Page<Item> => ({ items, next: null });

/** Route, without the API's prefix and query, to its answer; `{e}` stands for the endpoint. */
export const ANSWERS: Record<string, unknown> = {
  me: ME,
  fleet: FLEET,
  rollouts: { items: [{ endpoint: "production/fraud-scorer", id: RUN }] },
  "{e}": ENDPOINT,
  "{e}/telemetry": series(),
  "{e}/alerts": page<T.Alert>([
    { seq: 410, at: ago(230), title: "production/fraud-scorer unhealthy", body: "error rate 4.1% against a limit of 1%", severity: "critical", channel: "on-call", facts: {}, notified: ["on-call"], failures: [], state: "delivered", tries: 1 },
    { seq: 300, at: ago(9_000), title: "production/fraud-scorer drift", body: "distance drifts", severity: "warning", channel: "on-call", facts: {}, notified: [], failures: ["webhook answered 503"], state: "owed", tries: 4 },
  ]),
  "{e}/rollouts": page<T.RolloutSummary>([SUMMARY, { ...SUMMARY, id: "manual__2026-11-20", seq: 320, phase: "ended", ending: "promoted", ended_at: ago(86_400 * 3), cause: "watch ended pass", candidate: CURRENT, model: "fraud-scorer 2.1.0" }]),
  "{e}/rollout": DETAIL,
  "{e}/looks": page(LOOKS),
  "{e}/drift": page([DRIFT, { ...DRIFT, seq: 340, verdict: "inconclusive", reason: "too few rows: 81 of 500", features: [] }]),
  "{e}/drift-event": DRIFT_EVENT,
  "{e}/batch": BATCH,
  "{e}/rows": { release: CURRENT, columns: ["distance", "carrier"], rows: [{ distance: 1610, carrier: null }], sampled: 1, total: 1_998, dropped_share: 0.002 } satisfies T.Rows,
  "{e}/history": page<T.Tenure>([
    { seq: 330, release: CURRENT, model: "fraud-scorer 2.1.0", runtime: "3.0.0", rollout: "manual__2026-11-20", since: ago(86_400 * 3), until: null, ended_by: "" },
    { seq: 210, release: PREVIOUS, model: "fraud-scorer 2.0.0", runtime: "3.0.0", rollout: "manual__2026-10-02", since: ago(86_400 * 57), until: ago(86_400 * 3), ended_by: "promoted" },
  ]),
  "{e}/as-of": { at: ago(0), seq: 412, current: release(CURRENT, "2.1.0"), previous: release(PREVIOUS, "2.0.0"), rollout: { id: RUN, candidate: CANDIDATE, phase: "canary" }, traffic: TRAFFIC, approved_by: "dana", audit: "the chain up to here holds" } satisfies T.AsOf,
  "{e}/decisions": page<T.Decision>([
    { seq: 330, at: ago(86_400 * 3), kind: "promoted", rollout: "manual__2026-11-20", release: CURRENT, by: "", cause: "every gate passed", approved_by: "dana", evidence: [gate({ verdict: "pass" })], hash: "c0ffee".repeat(10), manifest_digest: `sha256:${"e1".repeat(32)}`, artifact_digest: `sha256:${"a1".repeat(32)}`, runtime_digest: null, code_version: "0123abc" },
  ]),
  "{e}/audit": { entries: 412, head: "ab12".repeat(16), noted: "ab12".repeat(16), agrees: true, detail: "" } satisfies T.Audit,
  "{e}/audit/verify": { verified_until: 412, head: 412, next: null, ok: true } satisfies T.Verified,
  "{e}/entries": page<T.Entry>([
    { seq: 408, at: ago(900), type: "canary-stepped", subject: RUN, summary: "canary step 2 of 3: 50%", origin: ORIGIN, hash: "ab12", event: {} },
  ]),
  "{e}/rollback": ANSWER,
  "{e}/drill": DRILL,
  "{e}/confirm": ENDPOINT,
  "{e}/abort": ANSWER,
  "{e}/hold": ENDPOINT,
  "{e}/resume": ENDPOINT,
};

/** The answer to a request of the page, or `undefined`. */
export function answerTo(url: string): unknown {
  const path = new URL(url, "http://localhost").pathname.replace(/^.*\/mlpipex\/api\/v1\//, "");
  const known = path.replace(/^endpoints\/[^/]+\/[^/]+/, "{e}");
  return ANSWERS[known];
}
