/** When to ask again: soon while something moves, seldom while nothing does, ever more seldom while nobody answers. */

export const MOVING_MS = 2_000;
export const STILL_MS = 15_000;
export const MAX_DELAY_MS = 60_000;

/**
 * Milliseconds until the next question.
 *
 * @param failures how many answers in a row have failed
 * @param jitter from 0 to 1: pages that lost one server together do not come back together
 */
export function nextDelay(
  { moving, failures }: { readonly moving: boolean; readonly failures: number },
  jitter: number = Math.random(),
): number {
  const calm = moving ? MOVING_MS : STILL_MS;
  if (failures === 0) return calm;
  const doubled = Math.min(MAX_DELAY_MS, MOVING_MS * 2 ** Math.min(failures, 10));
  return Math.round(doubled * (0.75 + jitter / 4));
}

/** An answer that is older than this many of its own delays is stale, and is shown so. */
export function isStale(answeredAt: number, now: number, moving: boolean): boolean {
  return now - answeredAt > 3 * (moving ? MOVING_MS : STILL_MS);
}
