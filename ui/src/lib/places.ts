/** Addresses inside the page, below `/plugin/mlpipex`; Airflow's router adds the folder that it is served from. */

import type { Ref } from "../api/endpoints.ts";

/** The page's place in Airflow: `url_route` of the plugin. */
export const HOME = "/plugin/mlpipex";

const part = encodeURIComponent;

function below({ environment, name }: Ref, view: string, query: Record<string, string | number> = {}): string {
  const search = new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)])).toString();
  return `${HOME}/e/${part(environment)}/${part(name)}${view ? `/${view}` : ""}${search ? `?${search}` : ""}`;
}

export const places = {
  fleet: HOME,
  endpoint: (ref: Ref) => below(ref, ""),
  rollouts: (ref: Ref) => below(ref, "rollouts"),
  rollout: (ref: Ref, id: string) => below(ref, "rollout", { id }),
  drift: (ref: Ref) => below(ref, "drift"),
  driftEvent: (ref: Ref, seq: number) => below(ref, "drift", { seq }),
  batch: (ref: Ref, id: string) => below(ref, "batch", { id }),
  history: (ref: Ref) => below(ref, "history"),
};

/** `production/fraud-scorer` in two parts; `undefined` where it is no endpoint's name. */
export function refOf(endpoint: string): Ref | undefined {
  const [environment, name, ...rest] = endpoint.split("/");
  return environment && name && rest.length === 0 ? { environment, name } : undefined;
}
