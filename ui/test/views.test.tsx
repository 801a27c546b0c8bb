import { act, cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { MemoryRouter, Route, Routes } from "react-router-dom";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import Page from "../src/main.tsx";
import * as fixtures from "./fixtures.ts";

// It draws on a canvas, which this document has none of.
vi.mock("uplot", () => ({
  default: class {
    setData() {}
    setSize() {}
    destroy() {}
  },
}));

type Answer = (url: URL, init?: RequestInit) => unknown;

/** What the API answers: the fixture of each route, but for those named here. A number is a status. */
function serve(own: Record<string, unknown> = {}) {
  const asked: { url: URL; init: RequestInit | undefined }[] = [];
  vi.stubGlobal("fetch", async (input: string, init?: RequestInit) => {
    const url = new URL(input, "http://airflow");
    asked.push({ url, init });
    const key = Object.keys(own).find((end) => url.pathname.endsWith(end));
    const value = key === undefined ? fixtures.answerTo(input) : own[key];
    const answer = typeof value === "function" ? (value as Answer)(url, init) : value;
    if (answer instanceof Error) throw answer;
    if (typeof answer === "number") return Response.json({ title: "Refused", detail: `answer ${answer}` }, { status: answer });
    return answer === undefined ? Response.json({}, { status: 404 }) : Response.json(answer);
  });
  return asked;
}

function open(path: string) {
  return render(
    <MemoryRouter initialEntries={[`/plugin/mlpipex${path}`]}>
      <Routes>
        <Route path="plugin/:page/*" element={<Page />} />
      </Routes>
    </MemoryRouter>,
  );
}

const ENDPOINT = "/e/production/fraud-scorer";

beforeEach(() => {
  HTMLDialogElement.prototype.showModal = function showModal() {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function close() {
    this.open = false;
  };
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

describe("every view", () => {
  it.each([
    ["", "production/fraud-scorer"],
    [ENDPOINT, "What users get"],
    [`${ENDPOINT}/rollouts`, "fraud-scorer 2.2.0"],
    [`${ENDPOINT}/rollout?id=${encodeURIComponent(fixtures.RUN)}`, "p95 latency"],
    [`${ENDPOINT}/drift`, "too few rows: 81 of 500"],
    [`${ENDPOINT}/drift?seq=377`, "distance"],
    [`${ENDPOINT}/batch?id=in-kilometres`, "score_nightly · score (task and log)"],
    [`${ENDPOINT}/history`, "Verify the chain"],
  ])("%s shows its data", async (path, words) => {
    serve();
    open(path);
    expect((await screen.findAllByText(words)).length).toBeGreaterThan(0);
  });

  it.each([["", "/fleet"], [ENDPOINT, "/fraud-scorer"], [`${ENDPOINT}/rollout?id=x`, "/rollout"], [`${ENDPOINT}/drift?seq=377`, "/drift-event"], [`${ENDPOINT}/batch?id=x`, "/batch"]])(
    "%s says what was refused, and offers to try again",
    async (path, route) => {
      serve({ [route]: 503 });
      open(path);
      expect((await screen.findAllByText("answer 503")).length).toBeGreaterThan(0);
      expect(screen.getAllByRole("button", { name: "Try again" }).length).toBeGreaterThan(0);
    },
  );

  it("shows no NaN, null, undefined or Invalid Date, whatever is missing", async () => {
    const nothing: unknown = JSON.parse(
      JSON.stringify({ ...fixtures.ENDPOINT, row: { ...fixtures.UNKNOWN_ROW }, current: null, previous: null, candidate: null, last_result: null, rollback: { takes: null, returns_to: null, rejects: null, sentences: [], possible: false, why_not: "Nothing is released yet.", changes: [] }, readiness: { lamp: "none", reason: null, checks: [] }, plane_error: "connection refused" }),
    );
    const empty = { ...fixtures.series(), releases: [], events: [] };
    serve({ "/fraud-scorer": nothing, "/telemetry": empty, "/alerts": { items: [], next: null } });
    const { container } = open(ENDPOINT);
    await screen.findByText("No request in this window");
    expect(container.textContent).not.toMatch(/NaN|\bnull\b|undefined|Invalid Date/);
    expect(screen.getByText("connection refused", { exact: false })).toBeTruthy();
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Roll back" }).disabled).toBe(true);
    expect(screen.getByText("Nothing is released yet.")).toBeTruthy();
  });

  it("says so where nothing is there yet", async () => {
    serve({ "/fleet": { ...fixtures.FLEET, items: [], total: 0 } });
    open("");
    expect(await screen.findByText("Nothing is released yet")).toBeTruthy();
  });

  it("leads back from an address that is none", async () => {
    serve();
    open("/nowhere");
    expect(await screen.findByText("There is no such view")).toBeTruthy();
  });
});

it("a fault of one view is shown, and the page can be shown again", async () => {
  vi.spyOn(console, "error").mockImplementation(() => undefined);
  let answers = 0;
  serve({ "/fleet": () => (answers++ === 0 ? { ...fixtures.FLEET, items: [{ endpoint: "broken" }] } : fixtures.FLEET) });
  open("");
  await screen.findByText("This page has a fault.");
  fireEvent.click(screen.getByRole("button", { name: "Show it again" }));
  expect(await screen.findByText("production/pricing")).toBeTruthy();
});

describe("the fleet", () => {
  it("asks for what is typed, once, and keeps the place in the address", async () => {
    const asked = serve();
    open("");
    await screen.findByText("production/pricing");
    fireEvent.change(screen.getByRole("searchbox"), { target: { value: "pri" } });
    fireEvent.change(screen.getByRole("searchbox"), { target: { value: "pricing" } });
    const searches = () => asked.map(({ url }) => url.searchParams.get("q")).filter(Boolean);
    await waitFor(() => expect(searches()).toEqual(["pricing"]));
    expect(screen.getByText("production/ranking"), "what was there stays until there is something else").toBeTruthy();
  });

  it("asks for the next page", async () => {
    const asked = serve({ "/fleet": { ...fixtures.FLEET, items: Array.from({ length: 50 }, (_, at) => fixtures.row({ endpoint: `production/m${at}`, name: `m${at}` })) } });
    open("");
    fireEvent.click(await screen.findByRole("button", { name: "Next" }));
    await waitFor(() => expect(asked.some(({ url }) => url.searchParams.get("offset") === "50")).toBe(true));
  });

  it("keeps the last answer, and says how old it is, where the next fails", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    let answers = 0;
    serve({ "/fleet": () => (answers++ === 0 ? fixtures.FLEET : new TypeError("gone")) });
    open("");
    await screen.findByText("production/pricing");
    await act(() => vi.advanceTimersByTimeAsync(2_100));
    expect(await screen.findByText("Out of date:")).toBeTruthy();
    expect(screen.getByText("production/pricing")).toBeTruthy();
    vi.useRealTimers();
  });
});

describe("a rollback by click", () => {
  async function dialog() {
    open(ENDPOINT);
    const button = await screen.findByRole("button", { name: "Roll back" });
    await waitFor(() => expect((button as HTMLButtonElement).disabled).toBe(false));
    fireEvent.click(button);
    return within(await screen.findByRole("dialog"));
  }

  it("is not sent without a reason", async () => {
    const asked = serve();
    const box = await dialog();
    fireEvent.click(box.getByRole("button", { name: "Roll back now" }));
    expect(await box.findByRole("alert")).toBeTruthy();
    expect(asked.filter(({ init }) => init?.method === "POST")).toEqual([]);
  });

  it("names what the person saw, and shows what it did", async () => {
    const asked = serve();
    const box = await dialog();
    fireEvent.change(box.getByRole("textbox"), { target: { value: " errors rise " } });
    fireEvent.click(box.getByRole("button", { name: "Roll back now" }));
    expect(await box.findByText(/Traffic has returned.* in 184 ms/)).toBeTruthy();
    const sent = asked.find(({ init }) => init?.method === "POST");
    expect(JSON.parse(String(sent?.init?.body))).toEqual({ reason: "errors rise", release: fixtures.CANDIDATE, rollout: null, hold: true });
  });

  it("repeats one decision after an answer that was lost: the key stays", async () => {
    let tries = 0;
    const asked = serve({ "/rollback": () => (tries++ === 0 ? new TypeError("lost") : fixtures.ANSWER) });
    const box = await dialog();
    fireEvent.change(box.getByRole("textbox"), { target: { value: "errors rise" } });
    fireEvent.click(box.getByRole("button", { name: "Roll back now" }));
    await box.findByText("No answer");
    fireEvent.click(box.getByRole("button", { name: "Roll back now" }));
    await box.findByText(/Traffic has returned/);
    const keys = asked.filter(({ init }) => init?.method === "POST").map(({ init }) => (init?.headers as Record<string, string>)["Idempotency-Key"]);
    expect(keys).toHaveLength(2);
    expect(new Set(keys).size).toBe(1);
    expect(keys[0]).toBeTruthy();
  });

  it("says what was refused, with what to do", async () => {
    serve({ "/rollback": 409 });
    const box = await dialog();
    fireEvent.change(box.getByRole("textbox"), { target: { value: "errors rise" } });
    fireEvent.click(box.getByRole("button", { name: "Roll back now" }));
    expect(await box.findByText("answer 409")).toBeTruthy();
    expect(box.getByRole("button", { name: "Roll back now" })).toBeTruthy();
  });

  it("is shut while nobody can say what the user may do, and says so", async () => {
    serve({ "/me": 503 });
    open(ENDPOINT);
    await screen.findByText("What you may do is not known: answer 503");
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Roll back" }).disabled).toBe(true);
  });

  it("is shut for a viewer, who reads why", async () => {
    serve({ "/me": fixtures.VIEWER });
    open(ENDPOINT);
    await screen.findByText(fixtures.VIEWER.why_not as string);
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Roll back" }).disabled).toBe(true);
  });
});

describe("hold and drill", () => {
  async function press(button: string, verb: string, reason: string) {
    open(ENDPOINT);
    const found = await screen.findByRole<HTMLButtonElement>("button", { name: button });
    await waitFor(() => expect(found.disabled).toBe(false));
    fireEvent.click(found);
    const box = within(await screen.findByRole("dialog"));
    fireEvent.change(box.getByRole("textbox"), { target: { value: reason } });
    fireEvent.click(box.getByRole("button", { name: verb }));
    return box;
  }

  it("says how long each way of a drill took, and who was hurt by it", async () => {
    serve();
    const box = await press("Drill", "Roll back and forward now", "every month");
    expect(await box.findByText(/The way back works: back in 212 ms, forth in 240 ms; 0 of 1,832 requests failed/)).toBeTruthy();
  });

  it("says so of a drill that never came back, without a number that nobody knows", async () => {
    serve({ "/drill": { ...fixtures.DRILL, ok: false, back_ms: 212, forth_ms: null, requests: null, failed_requests: null, detail: "the plan was not seen in force" } });
    const box = await press("Drill", "Roll back and forward now", "every month");
    expect(await box.findByText(/The drill failed: back in 212 ms, forth in –. the plan was not seen in force/)).toBeTruthy();
  });

  it("holds the rollout that is under way, and keeps saying so when the buttons change", async () => {
    const held = { ...fixtures.ENDPOINT, row: { ...fixtures.HURT, rollout: { ...fixtures.HURT.rollout, on_hold: true, hold_cause: "numbers look odd" } } };
    let isHeld = false;
    const asked = serve({ "/fraud-scorer": () => (isHeld ? held : fixtures.ENDPOINT), "/hold": () => ((isHeld = true), held) });
    const box = await press("Hold the rollout", "Hold", "numbers look odd");
    expect(await box.findByText("On hold.")).toBeTruthy();
    expect(await screen.findByText("The rollout waits for a person")).toBeTruthy();
    expect(box.getByText("On hold.")).toBeTruthy();
    const sent = asked.find(({ init }) => init?.method === "POST");
    expect(JSON.parse(String(sent?.init?.body))).toEqual({ reason: "numbers look odd", rollout: fixtures.RUN });
  });

  it("is shut where the manifest does not allow a drill, and says so", async () => {
    serve({ "/fraud-scorer": { ...fixtures.ENDPOINT, may: { drill: false, why_not_drill: "The manifest does not allow it." } } });
    open(ENDPOINT);
    expect((await screen.findByRole<HTMLButtonElement>("button", { name: "Drill" })).disabled).toBe(true);
    expect(screen.getByText("The manifest does not allow it.")).toBeTruthy();
  });
});

describe("a gate", () => {
  it("says why not yet, what broke, and when it can be decided", async () => {
    serve();
    open(`${ENDPOINT}/rollout?id=x`);
    const tile = within(await screen.findByRole("article", { name: "Gate error rate" }));
    expect(tile.getByText(/the interval still holds the threshold/)).toBeTruthy();
    expect(tile.getByText("in about 6 min 50 s")).toBeTruthy();
    const broken = within(screen.getByRole("article", { name: "Gate score distribution" }));
    expect(broken.getByText(/3.1% of predictions were dropped/)).toBeTruthy();
    expect(broken.getByText("Nothing measured yet.")).toBeTruthy();
  });
});

it("shows the rollouts of the Dag run whose tab it is", async () => {
  const asked = serve();
  render(
    <MemoryRouter>
      <Page dagId="release__fraud_scorer" runId={fixtures.RUN} />
    </MemoryRouter>,
  );
  expect(await screen.findByText("Stages and gates")).toBeTruthy();
  expect(asked.find(({ url }) => url.pathname.endsWith("/rollouts"))?.url.searchParams.get("run")).toBe(fixtures.RUN);
});
