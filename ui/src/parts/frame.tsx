/** The frame of an endpoint's views: where one is, and what else there is of it. */

import type { ReactNode } from "react";
import { Link, useLocation } from "react-router-dom";

import type { Ref } from "../api/endpoints.ts";
import { places } from "../lib/places.ts";
import { useTitle } from "../lib/useTitle.ts";

export function Trail({ steps }: { readonly steps: readonly (readonly [string, string | null])[] }) {
  return (
    <nav className="trail" aria-label="You are here">
      {steps.map(([label, to], at) => (
        <span key={label} className="row tight">
          {at > 0 ? <span aria-hidden="true">›</span> : null}
          {to ? <Link to={to}>{label}</Link> : <span aria-current="page">{label}</span>}
        </span>
      ))}
    </nav>
  );
}

const TABS = [
  ["Overview", "", places.endpoint],
  ["Rollouts", "rollout", places.rollouts],
  ["Drift", "drift", places.drift],
  ["History", "history", places.history],
] as const;

export function EndpointFrame({
  endpoint,
  here,
  title,
  children,
}: {
  readonly endpoint: Ref;
  /** Of a view below a tab: its own name. */
  readonly here?: string;
  readonly title: ReactNode;
  readonly children: ReactNode;
}) {
  const view = useLocation().pathname.split("/").at(6) ?? "";
  const name = `${endpoint.environment}/${endpoint.name}`;
  useTitle(here ? `${here} - ${name}` : name);
  return (
    <div className="stack">
      <Trail
        steps={[
          ["Models", places.fleet],
          [name, here ? places.endpoint(endpoint) : null],
          ...(here ? ([[here, null]] as const) : []),
        ]}
      />
      {title}
      <nav className="tabs" aria-label={`Views of ${name}`}>
        {TABS.map(([label, start, place]) => (
          <Link
            key={label}
            to={place(endpoint)}
            aria-current={(start ? view.startsWith(start) || (start === "drift" && view === "batch") : !view) ? "page" : undefined}
          >
            {label}
          </Link>
        ))}
      </nav>
      {children}
    </div>
  );
}
