/** What a drift entry of the ledger holds, read with care: its facts are JSON, and old entries lack newer fields. */

import type { DriftEvent } from "../api/types.ts";
import { isKnown } from "./format.ts";

type Json = Readonly<Record<string, unknown>>;

export interface Shift {
  readonly group: string;
  readonly trained: number;
  readonly served: number;
}

export interface Feature {
  readonly column: string;
  readonly verdict: string;
  readonly reason: string;
  /** Standard deviations of the score by which the drift moved rows; `null`: nobody can know. */
  readonly damage: number | null;
  readonly psi: number | null;
  readonly influence: number | null;
  readonly scoreShift: number | null;
  readonly unusable: number | null;
  readonly beyondTraining: number | null;
  readonly shifts: readonly Shift[];
}

export interface SharedBatch {
  readonly id: string;
  readonly rows: number | null;
  /** Column and the part of its drift that goes away with this batch. */
  readonly shares: readonly (readonly [string, number])[];
  readonly faults: readonly string[];
  readonly requests: readonly string[];
}

function list(value: unknown): Json[] {
  return Array.isArray(value) ? value.filter((item): item is Json => typeof item === "object" && item !== null) : [];
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");
const known = (value: unknown): number | null => (isKnown(value) ? value : null);

/** Worst first by damage; what has none that anybody knows comes before what is harmless, and passes come last. */
export function features(event: DriftEvent): Feature[] {
  const ranking = list(event.facts.ranking);
  const columns = list(event.columns.length > 0 ? event.columns : event.facts.columns);
  const names = new Set([...ranking, ...columns].map((item) => text(item.column)).filter(Boolean));
  const found = [...names].map((column): Feature => {
    const rank = ranking.find((item) => item.column === column) ?? {};
    const looked = columns.find((item) => item.column === column) ?? {};
    const psi = list(looked.measures).find((measure) => measure.measure === "psi");
    return {
      column,
      verdict: text(looked.verdict) || text(rank.verdict),
      reason: text(looked.reason) || text(rank.reason),
      damage: known(rank.damage),
      psi: known(rank.psi) ?? known(psi?.value),
      influence: known(rank.influence),
      scoreShift: known(rank.score_shift),
      unusable: known(looked.unusable),
      beyondTraining: known(looked.beyond_training),
      shifts: list(looked.shifts).flatMap((shift) => {
        const trained = known(shift.reference_share);
        const served = known(shift.share);
        return trained === null || served === null ? [] : [{ group: text(shift.group), trained, served }];
      }),
    };
  });
  return found.sort((a, b) => rankOf(b) - rankOf(a) || a.column.localeCompare(b.column));
}

function rankOf({ damage, verdict }: Feature): number {
  if (verdict === "error") return Number.MAX_VALUE;
  if (damage !== null) return damage;
  return verdict === "fail" ? 0.05 : -1;
}

/** Batches that carry a part of the drift, the largest part first. */
export function batches(event: DriftEvent): SharedBatch[] {
  const stored = list(event.facts.batches).map((batch): SharedBatch => {
    const shares = Object.entries((batch.shares as Json | undefined) ?? {}).filter((share): share is [string, number] => isKnown(share[1]));
    return {
      id: text(batch.batch),
      rows: known(batch.rows),
      shares: shares.sort((a, b) => b[1] - a[1]),
      faults: list(batch.faults).map((fault) => text(fault.reason) || `${text(fault.column)}: ${text(fault.kind)}`),
      requests: Array.isArray(batch.requests) ? batch.requests.map(String) : [],
    };
  });
  return stored.sort((a, b) => (b.shares[0]?.[1] ?? 0) - (a.shares[0]?.[1] ?? 0));
}
