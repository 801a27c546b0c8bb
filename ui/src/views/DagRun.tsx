/** The tab of a Dag run: the rollouts that this run opened. */

import { Link } from "react-router-dom";

import * as api from "../api/endpoints.ts";
import { places, refOf } from "../lib/places.ts";
import { usePoll } from "../lib/usePoll.ts";
import { Empty, Loaded } from "../parts/states.tsx";

export function DagRun({ dagId, runId }: { readonly dagId: string; readonly runId: string }) {
  const polled = usePoll(`run ${dagId} ${runId}`, (signal) => api.rolloutsOfRun(dagId, runId, signal));
  return (
    <div className="stack">
      <h1>Rollouts of this run</h1>
      <Loaded polled={polled} what="the rollouts of this run">
        {({ items }) =>
          items.length === 0 ? (
            <Empty title="This run opened no rollout">
              <Link to={places.fleet}>All models</Link>
            </Empty>
          ) : (
            <ul className="plain stack tight">
              {items.map(({ endpoint, id }) => {
                const ref = refOf(endpoint);
                return (
                  <li key={`${endpoint} ${id}`} className="card row between">
                    {ref ? <Link to={places.endpoint(ref)}>{endpoint}</Link> : endpoint}
                    {ref ? <Link to={places.rollout(ref, id)}>Stages and gates</Link> : null}
                  </li>
                );
              })}
            </ul>
          )
        }
      </Loaded>
    </div>
  );
}
