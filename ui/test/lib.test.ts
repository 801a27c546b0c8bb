import { describe, expect, it } from "vitest";

import { batches, features } from "../src/lib/drift.ts";
import { age, duration, instant, milliseconds, number, percent, UNKNOWN, utcTime } from "../src/lib/format.ts";
import { place } from "../src/lib/intervals.ts";
import { places, refOf } from "../src/lib/places.ts";
import { isStale, MAX_DELAY_MS, MOVING_MS, nextDelay, STILL_MS } from "../src/lib/polling.ts";
import { align, totals } from "../src/lib/series.ts";
import { newKey, reasonFault } from "../src/parts/ReasonDialog.tsx";
import { DRIFT_EVENT, RUN, series } from "./fixtures.ts";

describe("numbers", () => {
  it.each([number, percent, milliseconds, duration])("%o never shows what is not known as a number", (format) => {
    for (const value of [null, undefined, Number.NaN, Number.POSITIVE_INFINITY]) expect(format(value)).toBe(UNKNOWN);
  });

  it.each([
    [0, "0"],
    [18_250, "18,250"],
    [0.0012345, "0.00123"],
    [0.000001, "1.00e-6"],
    [-0.5, "-0.5"],
  ])("%d", (value, words) => expect(number(value)).toBe(words));

  it.each([
    [0, "0%"],
    [0.0012, "0.12%"],
    [1, "100%"],
    [0.9999, "99.99%"],
  ])("share %d", (share, words) => expect(percent(share, 3)).toBe(words));

  it.each([
    [0, "0 s"],
    [59, "59 s"],
    [61, "1 min 1 s"],
    [3_600, "1 h"],
    [90_000, "1 d 1 h"],
  ])("%d seconds", (seconds, words) => expect(duration(seconds)).toBe(words));

  it("times", () => {
    const at = instant("2026-11-28T14:03:00+02:00") as Date;
    expect(utcTime(at)).toBe("2026-11-28 12:03:00 UTC");
    expect(age(at, at.getTime() + 90_000)).toBe("1 min 30 s ago");
    expect(age(at, at.getTime() - 5_000)).toBe("in 5 s");
    expect(instant("soon")).toBeUndefined();
    expect(instant(null)).toBeUndefined();
  });
});

describe("polling", () => {
  it("asks soon while something moves", () => {
    expect(nextDelay({ moving: true, failures: 0 })).toBe(MOVING_MS);
    expect(nextDelay({ moving: false, failures: 0 })).toBe(STILL_MS);
  });

  it("asks ever more seldom while nobody answers, with a bound, and never all pages at once", () => {
    const delays = [1, 2, 3, 4, 50].map((failures) => nextDelay({ moving: true, failures }, 1));
    expect(delays).toEqual([...delays].sort((a, b) => a - b));
    expect(delays.at(-1)).toBe(MAX_DELAY_MS);
    expect(nextDelay({ moving: true, failures: 3 }, 0)).toBeLessThan(nextDelay({ moving: true, failures: 3 }, 1));
  });

  it("knows when an answer is old", () => {
    expect(isStale(0, MOVING_MS, true)).toBe(false);
    expect(isStale(0, 4 * MOVING_MS, true)).toBe(true);
    expect(isStale(0, 4 * MOVING_MS, false)).toBe(false);
  });
});

describe("series", () => {
  it("puts releases on one axis; what was not measured in full is a gap", () => {
    const { times, rows } = align(series(), "requests");
    expect(times).toHaveLength(60);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(rows).toHaveLength(2);
    for (const row of rows) {
      expect(row).toHaveLength(60);
      expect(row[20]).toBeNull();
    }
    expect(rows[1]?.[0]).toBe(0);
  });

  it("has no error rate where there were no requests", () => {
    expect(align(series(), "error_rate").rows[1]?.[0]).toBeNull();
  });

  it("takes buckets that do not meet", () => {
    const two = series();
    const [first, second] = two.releases;
    if (first) first.points = first.points.slice(0, 2);
    if (second) second.points = second.points.slice(1, 3);
    const { times, rows } = align(two, "requests");
    expect(times).toHaveLength(3);
    expect(rows[0]?.[2]).toBeNull();
    expect(rows[1]?.[0]).toBeNull();
  });

  it("sums what each release answered", () => {
    const sums = totals(series());
    expect(sums.map(({ role }) => role)).toEqual(["current", "candidate"]);
    expect(totals({ ...series(), releases: [{ release: "x", role: "other", points: [] }] })).toEqual([
      { release: "x", role: "other", requests: 0, errors: 0, errorRate: null, worstP95: null },
    ]);
  });
});

describe("a gate on its axis", () => {
  it("has the threshold between what is beyond it and what is not", () => {
    const placed = place(0.0031, [-0.0011, 0.0068]);
    expect(placed?.low).toBeLessThan(placed?.threshold ?? 0);
    expect(placed?.margin).toBeGreaterThan(placed?.threshold ?? 1);
    expect(placed?.high).toBeLessThanOrEqual(1);
  });

  it("reaches to the edge where an end is not known", () => {
    expect(place(1, [null, 2])).toMatchObject({ low: 0, openLow: true, openHigh: false });
    expect(place(1, [0.5, null])).toMatchObject({ high: 1, openHigh: true });
  });

  it("is not there where nothing was measured", () => {
    expect(place(null, null)).toBeUndefined();
    expect(place(null, [null, null])).toBeUndefined();
    expect(place(Number.NaN, null)).toBeUndefined();
  });

  it("takes zero and one look", () => {
    const placed = place(0, null);
    expect(placed?.margin).toBe(placed?.threshold);
  });
});

describe("drift", () => {
  it("ranks a column that cannot be read first, then by damage; an unknown damage is not a harmless one", () => {
    expect(features(DRIFT_EVENT).map(({ column }) => column)).toEqual(["origin", "distance", "carrier"]);
    expect(features(DRIFT_EVENT)[2]?.damage).toBeNull();
  });

  it("ranks batches by the part that they carry", () => {
    expect(batches(DRIFT_EVENT).map(({ id }) => id)).toEqual(["in-kilometres/2026-11-27", ""]);
  });

  it("takes an entry of before there were facts", () => {
    const old = { ...DRIFT_EVENT, facts: {}, columns: [] };
    expect(features(old)).toEqual([]);
    expect(batches(old)).toEqual([]);
    expect(features({ ...old, facts: { ranking: "many", columns: [null, 3] } })).toEqual([]);
  });
});

describe("places", () => {
  it("carry an id whole", () => {
    const place = new URL(places.rollout({ environment: "production", name: "fraud" }, RUN), "http://airflow");
    expect(place.searchParams.get("id")).toBe(RUN);
  });

  it("name an endpoint, or nothing", () => {
    expect(refOf("production/fraud")).toEqual({ environment: "production", name: "fraud" });
    for (const wrong of ["production", "a/b/c", "/fraud", ""]) expect(refOf(wrong)).toBeUndefined();
  });
});

describe("a reason", () => {
  it.each(["", "  ", " a ", "x".repeat(501)])("refuses %j", (reason) => expect(reasonFault(reason)).toBeDefined());
  it("takes words", () => expect(reasonFault("wrong currency")).toBeUndefined());
});

it("makes keys that are UUIDs, and never the same", () => {
  const keys = new Set(Array.from({ length: 100 }, newKey));
  expect(keys.size).toBe(100);
  for (const key of keys) expect(key).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
});
