import { describe, expect, it, vi } from "vitest";

import { address, ApiError, basePath, problemOf, request } from "../src/api/client.ts";
import { RUN } from "./fixtures.ts";

describe("address", () => {
  it("carries an id of a run whole: plus, colon and slash", () => {
    const url = new URL(address(["endpoints", "production", "fraud", "rollout"], { id: RUN }, "/"), "http://airflow");
    expect(url.searchParams.get("id")).toBe(RUN);
    expect(url.pathname).toBe("/mlpipex/api/v1/endpoints/production/fraud/rollout");
  });

  it("stays below the folder that Airflow is served from", () => {
    expect(address(["me"], {}, "/team-a/airflow/")).toBe("/team-a/airflow/mlpipex/api/v1/me");
  });

  it("leaves out what is not asked", () => {
    expect(address(["fleet"], { q: "", before: undefined, limit: 50 }, "/")).toBe("/mlpipex/api/v1/fleet?limit=50");
  });

  it.each([
    ["http://localhost:8080/", "/"],
    ["https://ml.example/team-a/", "/team-a/"],
  ])("reads the folder of %s from the document", (baseURI, path) => {
    expect(basePath({ baseURI } as Document)).toBe(path);
  });
});

describe("problems", () => {
  it("keeps value, limit, remedy and runbook", () => {
    const problem = problemOf(409, { title: "IllegalTransition", detail: "no previous", value: 3, limit: "4", remedy: "wait", runbook: "illegal-transition" });
    expect(problem).toEqual({ status: 409, title: "IllegalTransition", detail: "no previous", value: "3", limit: "4", remedy: "wait", runbook: "illegal-transition" });
  });

  it.each([401, 403, 404, 502, 503])("has words for a bare %i of a proxy", (status) => {
    expect(problemOf(status, "<html>").detail).not.toBe("The server gave no reason.");
  });
});

function answering(response: Response | Error) {
  const asked = vi.fn<typeof fetch>(() => (response instanceof Error ? Promise.reject(response) : Promise.resolve(response)));
  vi.stubGlobal("fetch", asked);
  return asked;
}

describe("request", () => {
  it("sends JSON, the session and the key", async () => {
    const asked = answering(Response.json({ ok: true }));
    await request(["x"], { method: "POST", body: { reason: "slow" }, headers: { "Idempotency-Key": "k" } });
    const init = asked.mock.calls[0]?.[1];
    expect(init?.credentials).toBe("same-origin");
    expect(init?.headers).toMatchObject({ "content-type": "application/json", "Idempotency-Key": "k" });
    expect(init?.body).toBe('{"reason":"slow"}');
  });

  it("throws what was refused", async () => {
    answering(Response.json({ title: "Forbidden", detail: "viewers look" }, { status: 403 }));
    await expect(request(["x"])).rejects.toMatchObject({ status: 403, message: "viewers look" });
  });

  it("says that nobody answered", async () => {
    answering(new TypeError("Failed to fetch"));
    const refused = request(["x"]);
    await expect(refused).rejects.toBeInstanceOf(ApiError);
    await expect(refused).rejects.toMatchObject({ status: 0 });
  });

  it("takes a login page for no answer", async () => {
    answering(new Response("<html>log in</html>", { status: 200 }));
    await expect(request(["x"])).rejects.toMatchObject({ problem: { title: "No JSON" } });
  });
});
