/**
 * The health page of MLPipeX inside Airflow's UI.
 *
 * Airflow loads this bundle as a UMD module, finds the component as `AirflowPlugin`, and renders it at
 * `/plugin/mlpipex/*` and as a tab of a Dag run, with the ids of that run.
 */

import { ChakraProvider, defaultSystem } from "@chakra-ui/react";
import { Component, type ReactNode } from "react";
import { Route, Routes, useParams, useSearchParams } from "react-router-dom";
import plotStyle from "uplot/dist/uPlot.min.css?inline";

import * as api from "./api/endpoints.ts";
import type { Me } from "./api/types.ts";
import { places } from "./lib/places.ts";
import { usePoll } from "./lib/usePoll.ts";
import { Notice } from "./parts/basics.tsx";
import { Trail } from "./parts/frame.tsx";
import { Empty } from "./parts/states.tsx";
import style from "./style.css?inline";
import { Batch } from "./views/Batch.tsx";
import { DagRun } from "./views/DagRun.tsx";
import { DriftEvent, DriftEvents } from "./views/Drift.tsx";
import { Endpoint } from "./views/Endpoint.tsx";
import { Fleet } from "./views/Fleet.tsx";
import { History } from "./views/History.tsx";
import { Rollout, Rollouts } from "./views/Rollout.tsx";

export interface PluginProps {
  readonly dagId?: string;
  readonly runId?: string;
  readonly taskId?: string;
  readonly mapIndex?: string;
}

/** A fault of this page must not take Airflow's own with it. */
class Boundary extends Component<{ readonly children: ReactNode }, { readonly error: Error | undefined }> {
  override state: { readonly error: Error | undefined } = { error: undefined };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <Notice tone="red" role="alert">
        <strong>This page has a fault.</strong>
        <p>{this.state.error.message}</p>
        <p>
          A rollback needs no page: <span className="mono">mlpipex rollback ENDPOINT --cause …</span>
        </p>
        <button type="button" onClick={() => this.setState({ error: undefined })}>
          Show it again
        </button>
      </Notice>
    );
  }
}

function Nowhere() {
  return (
    <div className="stack">
      <Trail steps={[["Models", places.fleet]]} />
      <Empty title="There is no such view">Begin at the fleet.</Empty>
    </div>
  );
}

type View = "overview" | "rollout" | "rollouts" | "drift" | "batch" | "history";

function OfEndpoint({ view, me }: { readonly view: View; readonly me: Me | undefined }) {
  const { environment, name } = useParams();
  const [params] = useSearchParams();
  if (!environment || !name) return <Nowhere />;
  const endpoint = { environment, name };
  const id = params.get("id");
  const seq = Number(params.get("seq"));
  switch (view) {
    case "overview":
      return <Endpoint endpoint={endpoint} me={me} />;
    case "rollouts":
      return <Rollouts endpoint={endpoint} />;
    case "rollout":
      return id ? <Rollout endpoint={endpoint} id={id} /> : <Rollouts endpoint={endpoint} />;
    case "drift":
      return Number.isInteger(seq) && seq > 0 ? <DriftEvent endpoint={endpoint} seq={seq} /> : <DriftEvents endpoint={endpoint} />;
    case "batch":
      return id ? <Batch endpoint={endpoint} id={id} me={me} /> : <Nowhere />;
    case "history":
      return <History endpoint={endpoint} />;
  }
}

/** Who may do nothing, for as long as nobody says who it is. */
const NOBODY: Me = { user: "", may_write: false, why_not: null, rollback_dag: "", version: "" };

function Pages() {
  const asked = usePoll("me", api.me);
  const me = asked.data ?? (asked.problem ? { ...NOBODY, why_not: `What you may do is not known: ${asked.problem.detail}` } : undefined);
  return (
    <Routes>
      <Route index element={<Fleet />} />
      <Route path="e/:environment/:name">
        <Route index element={<OfEndpoint view="overview" me={me} />} />
        {(["rollouts", "rollout", "drift", "batch", "history"] as const).map((view) => (
          <Route key={view} path={view} element={<OfEndpoint view={view} me={me} />} />
        ))}
      </Route>
      <Route path="*" element={<Nowhere />} />
    </Routes>
  );
}

export default function MlpipexHealthPage(props: PluginProps) {
  return (
    <ChakraProvider value={globalThis.ChakraUISystem ?? defaultSystem}>
      <style>{plotStyle + style}</style>
      <div className="mlpx">
        <Boundary>{props.dagId && props.runId ? <DagRun dagId={props.dagId} runId={props.runId} /> : <Pages />}</Boundary>
      </div>
    </ChakraProvider>
  );
}
