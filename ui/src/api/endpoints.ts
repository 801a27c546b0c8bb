/** One function a route. Ids travel in the query, because they hold `+`, `:` and `/`. */

import { type Query, request } from "./client.ts";
import type * as T from "./types.ts";

type Signal = AbortSignal | undefined;

/** An endpoint's name as the API splits it: `production/fraud-scorer`. */
export interface Ref {
  readonly environment: string;
  readonly name: string;
}

function get<Answer>(parts: readonly string[], query: Query, signal: Signal): Promise<Answer> {
  return request<Answer>(parts, signal ? { query, signal } : { query });
}

function at({ environment, name }: Ref, ...rest: string[]): string[] {
  return ["endpoints", environment, name, ...rest];
}

export const me = (signal?: Signal) => get<T.Me>(["me"], {}, signal);
export const fleet = (query: Query, signal?: Signal) => get<T.Fleet>(["fleet"], query, signal);
export const rolloutsOfRun = (dag: string, run: string, signal?: Signal) =>
  get<{ items: { endpoint: string; id: string }[] }>(["rollouts"], { dag, run }, signal);

export const endpoint = (ref: Ref, signal?: Signal) => get<T.Endpoint>(at(ref), {}, signal);
export const telemetry = (ref: Ref, query: Query, signal?: Signal) => get<T.Series>(at(ref, "telemetry"), query, signal);
export const rollouts = (ref: Ref, query: Query, signal?: Signal) =>
  get<T.Page<T.RolloutSummary>>(at(ref, "rollouts"), query, signal);
export const rollout = (ref: Ref, id: string, signal?: Signal) => get<T.RolloutDetail>(at(ref, "rollout"), { id }, signal);
export const looks = (ref: Ref, query: Query, signal?: Signal) => get<T.Page<T.Look>>(at(ref, "looks"), query, signal);
export const driftEvents = (ref: Ref, query: Query, signal?: Signal) =>
  get<T.Page<T.DriftSummary>>(at(ref, "drift"), query, signal);
export const driftEvent = (ref: Ref, seq: number, signal?: Signal) =>
  get<T.DriftEvent>(at(ref, "drift-event"), { seq }, signal);
export const batch = (ref: Ref, id: string, signal?: Signal) => get<T.Batch>(at(ref, "batch"), { id }, signal);
export const rows = (ref: Ref, query: Query, signal?: Signal) => get<T.Rows>(at(ref, "rows"), query, signal);
export const tenures = (ref: Ref, query: Query, signal?: Signal) =>
  get<T.Page<T.Tenure>>(at(ref, "history"), query, signal);
export const entries = (ref: Ref, query: Query, signal?: Signal) =>
  get<T.Page<T.Entry>>(at(ref, "entries"), query, signal);
export const asOf = (ref: Ref, moment: string, signal?: Signal) => get<T.AsOf>(at(ref, "as-of"), { at: moment }, signal);
export const decisions = (ref: Ref, query: Query, signal?: Signal) =>
  get<T.Page<T.Decision>>(at(ref, "decisions"), query, signal);
export const alerts = (ref: Ref, query: Query, signal?: Signal) => get<T.Page<T.Alert>>(at(ref, "alerts"), query, signal);
export const audit = (ref: Ref, signal?: Signal) => get<T.Audit>(at(ref, "audit"), {}, signal);
export const verify = (ref: Ref, after: number, signal?: Signal) =>
  get<T.Verified>(at(ref, "audit", "verify"), { after }, signal);

function post<Answer>(ref: Ref, verb: string, body: unknown, key?: string): Promise<Answer> {
  const headers = key ? { "Idempotency-Key": key } : {};
  return request<Answer>(at(ref, verb), { method: "POST", body, headers });
}

/**
 * Return traffic to the last good release.
 *
 * @param body `release` is what the person saw on the page: a page that is out of date must not take another one away
 * @param key the same for every try of one decision, so that a click whose answer was lost can be made again
 */
export const rollBack = (
  ref: Ref,
  body: { reason: string; release: string | null; rollout: string | null; hold: boolean },
  key: string,
) => post<T.RollbackAnswer>(ref, "rollback", body, key);
export const hold = (ref: Ref, body: { reason: string; rollout: string | null }) =>
  post<T.Endpoint>(ref, "hold", body);
export const resume = (ref: Ref, body: { reason: string; rollout: string | null; accept: boolean }) =>
  post<T.Endpoint>(ref, "resume", body);
export const abort = (ref: Ref, body: { reason: string; rollout: string }, key: string) =>
  post<T.RollbackAnswer>(ref, "abort", body, key);
export const confirm = (ref: Ref, body: { reason: string; release: string }) => post<T.Endpoint>(ref, "confirm", body);
export const drill = (ref: Ref, body: { reason: string }, key: string) => post<T.Drill>(ref, "drill", body, key);
