/** Telemetry as a chart wants it: one axis of time, one row of numbers a release, gaps where nothing was measured. */

import type { Point, Series } from "../api/types.ts";
import { isKnown } from "./format.ts";

export type Metric = "requests" | "error_rate" | "p95_ms";

export interface Aligned {
  /** Seconds since 1970, rising. */
  readonly times: number[];
  readonly rows: (number | null)[][];
}

/** A bucket that was never fully measured is a gap: a half-counted one would look like a drop in traffic. */
function valueOf(point: Point, metric: Metric): number | null {
  const value = point[metric];
  return point.complete && isKnown(value) ? value : null;
}

export function align(series: Series, metric: Metric): Aligned {
  const at = (point: Point) => Date.parse(point.at) / 1000;
  const times = [...new Set(series.releases.flatMap((release) => release.points.map(at)))]
    .filter(isKnown)
    .sort((a, b) => a - b);
  const rows = series.releases.map((release) => {
    const known = new Map(release.points.map((point) => [at(point), valueOf(point, metric)]));
    return times.map((time) => known.get(time) ?? null);
  });
  return { times, rows };
}

export interface Totals {
  readonly release: string;
  readonly role: string;
  readonly requests: number;
  readonly errors: number;
  readonly errorRate: number | null;
  /** The worst bucket's: quantiles of buckets do not add up to one of the whole. */
  readonly worstP95: number | null;
}

/** What each release answered in the window, for the comparison of control and candidate. */
export function totals(series: Series): Totals[] {
  return series.releases.map(({ release, role, points }) => {
    const requests = points.reduce((sum, point) => sum + point.requests, 0);
    const errors = points.reduce((sum, point) => sum + point.errors, 0);
    const latencies = points.map((point) => point.p95_ms).filter(isKnown);
    return {
      release,
      role,
      requests,
      errors,
      errorRate: requests > 0 ? errors / requests : null,
      worstP95: latencies.length > 0 ? Math.max(...latencies) : null,
    };
  });
}
