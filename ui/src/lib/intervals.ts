/** Where a gate stands on one axis: its margin, the interval around it, and the threshold, which is at zero. */

import type { Interval } from "../api/types.ts";
import { isKnown } from "./format.ts";

export interface Placed {
  /** All from 0 (left) to 1 (right). */
  readonly threshold: number;
  readonly margin: number | null;
  readonly low: number;
  readonly high: number;
  /** An end that is not known reaches to the edge. */
  readonly openLow: boolean;
  readonly openHigh: boolean;
}

/**
 * @returns `undefined` where nothing was measured
 */
export function place(margin: number | null, interval: Interval | null): Placed | undefined {
  const [low, high] = interval ?? [null, null];
  const known = [margin, low, high].filter(isKnown);
  if (known.length === 0) return undefined;
  const least = Math.min(0, ...known);
  const most = Math.max(0, ...known);
  const span = most - least || 1;
  const pad = span * 0.12;
  const at = (value: number) => (value - least + pad) / (span + 2 * pad);
  const bare = interval === null;
  const point = isKnown(margin) ? at(margin) : null;
  return {
    threshold: at(0),
    margin: point,
    low: isKnown(low) ? at(low) : bare && point !== null ? point : 0,
    high: isKnown(high) ? at(high) : bare && point !== null ? point : 1,
    openLow: !bare && !isKnown(low),
    openHigh: !bare && !isKnown(high),
  };
}
